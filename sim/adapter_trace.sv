// SPDX-License-Identifier: Apache-2.0
//
// Logs what reaches the lock, in which order, and the writes that reach the registers. Described in
// sim/system.py, which reads the log. A record is five 32-bit words: cycle, kind, partition, info,
// data. The file is named by +adapter_trace=FILE; without it nothing is logged.

module adapter_trace (
    input wire clk,
    input wire rst,
    input wire [31:0] reset_pins,   // levels, told when they change
    input wire [31:0] resetting,
    input wire down,
    input wire denied_write_en,     // a write without the privilege that its register asks for
    input wire [31:0] denied_write_partition,
    input wire [31:0] denied_write_address,
    input wire denied_read_en,      // such a read
    input wire [31:0] denied_read_partition,
    input wire [31:0] denied_read_address,
    input wire write_en,            // a partition's register was written
    input wire [31:0] write_partition,
    input wire [30:0] write_strobe,
    input wire write_waiting,       // an event of the partition waits
    input wire [31:0] write_data,
    input wire manager_en,          // a register of the manager was written
    input wire [31:0] manager_index,
    input wire [31:0] manager_strobe,
    input wire [31:0] manager_data,
    input wire complete_en,         // the oldest accepted command, or other move, ended
    input wire [31:0] complete_partition,
    input wire [31:0] complete_outcome,
    input wire retire_en,           // ... and is through with its lock
    input wire [31:0] retire_partition,
    input wire [31:0] retire_kind,
    input wire expired_en,          // a grant's lease was found to have passed
    input wire [31:0] expired_partition,
    input wire attempt_en,          // the head of a queue was decided
    input wire [31:0] attempt_partition,
    input wire [31:0] attempt_verdict,
    input wire order_en,            // the table, a cursor, a head or a grant was changed
    input wire [31:0] order_partition,
    input wire [31:0] order_outcome,
    input wire [31:0] order_count
);
    localparam [31:0] WRITE = 0, MANAGER_WRITE = 1, COMPLETE = 2, ATTEMPT = 3, ORDER = 4,
        RETIRE = 5, RESET_PINS = 6, RESETTING = 7, DOWN = 8, EXPIRED = 9, DENIED = 10;

    integer file = 0;
    reg [8 * 256 - 1:0] name;
    reg [31:0] cycle = 0;
    reg [31:0] reset_pins_before = 0;
    reg [31:0] resetting_before = 0;
    reg down_before = 0;

    task tell(input [31:0] kind, input [31:0] partition, input [31:0] info, input [31:0] data);
        $fwrite(file, "%u%u%u%u%u", cycle, kind, partition, info, data);
    endtask

    initial if ($value$plusargs("adapter_trace=%s", name)) file = $fopen(name, "wb");

    // What a level forbids does not happen in the cycle in which it is first high: levels go first.
    always @(posedge clk) begin
        if (file != 0 && !rst) begin
            if (reset_pins != reset_pins_before) tell(RESET_PINS, 0, 0, reset_pins);
            if (resetting != resetting_before) tell(RESETTING, 0, 0, resetting);
            if (down != down_before) tell(DOWN, 0, 0, {31'd0, down});
            if (denied_write_en)
                tell(DENIED, denied_write_partition, 1, denied_write_address);
            if (denied_read_en)
                tell(DENIED, denied_read_partition, 0, denied_read_address);
            if (write_en)
                tell(WRITE, write_partition, {write_waiting, write_strobe}, write_data);
            if (manager_en) tell(MANAGER_WRITE, manager_index, manager_strobe, manager_data);
            if (complete_en) tell(COMPLETE, complete_partition, complete_outcome, 0);
            if (retire_en) tell(RETIRE, retire_partition, retire_kind, 0);
            if (expired_en) tell(EXPIRED, expired_partition, 0, 0);
            if (attempt_en) tell(ATTEMPT, attempt_partition, attempt_verdict, 0);
            if (order_en) tell(ORDER, order_partition, order_outcome, order_count);
            reset_pins_before <= reset_pins;
            resetting_before <= resetting;
            down_before <= down;
        end
        cycle <= cycle + 1;
    end

    final if (file != 0) $fclose(file);
endmodule
