// SPDX-License-Identifier: Apache-2.0
//
// Logs what reaches the lock, in which order, and the writes that reach the registers. Described in
// sim/system.py, which reads the log. A record is five 32-bit words: cycle, kind, partition, info,
// data. The file is named by +adapter_trace=FILE; without it nothing is logged.

module adapter_trace (
    input wire clk,
    input wire rst,
    input wire write_en,            // a partition's register was written
    input wire [31:0] write_partition,
    input wire [31:0] write_strobe,
    input wire [31:0] write_data,
    input wire manager_en,          // a register of the manager was written
    input wire [31:0] manager_index,
    input wire [31:0] manager_strobe,
    input wire [31:0] manager_data,
    input wire attempt_en,          // the head of a queue was decided
    input wire [31:0] attempt_partition,
    input wire [31:0] attempt_verdict,
    input wire complete_en,         // the oldest accepted command ended
    input wire [31:0] complete_partition,
    input wire [31:0] complete_outcome,
    input wire change_en,           // the table or a cursor was changed
    input wire [31:0] change_partition,
    input wire [31:0] change_done,
    input wire [31:0] change_id
);
    integer file = 0;
    reg [8 * 256 - 1:0] name;
    reg [31:0] cycle = 0;

    initial if ($value$plusargs("adapter_trace=%s", name)) file = $fopen(name, "wb");

    always @(posedge clk) begin
        if (file != 0 && !rst) begin
            if (write_en)
                $fwrite(file, "%u%u%u%u%u", cycle, 32'd0, write_partition, write_strobe,
                        write_data);
            if (manager_en)
                $fwrite(file, "%u%u%u%u%u", cycle, 32'd1, manager_index, manager_strobe,
                        manager_data);
            if (complete_en)
                $fwrite(file, "%u%u%u%u%u", cycle, 32'd2, complete_partition, complete_outcome,
                        32'd0);
            if (attempt_en)
                $fwrite(file, "%u%u%u%u%u", cycle, 32'd3, attempt_partition, attempt_verdict,
                        32'd0);
            if (change_en)
                $fwrite(file, "%u%u%u%u%u", cycle, 32'd4, change_partition, change_done,
                        change_id);
        end
        cycle <= cycle + 1;
    end

    final if (file != 0) $fclose(file);
endmodule
