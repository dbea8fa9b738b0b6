// SPDX-License-Identifier: Apache-2.0
//
// An AXI4 memory for simulation, with exact timing. Described in sim/memory.py, which also controls
// it: registers marked public are written by the testbench, by their names.
//
// Everything happens in one block per clock edge, in this order: transfers of the cycle that ends,
// writes to the storage, the choice of what is offered in the cycle that begins; in each, the port
// of the adapter comes before that of the processor, `cpu`.

module axi4_memory #(
    parameter DATA_BITS = 64,
    parameter ADDRESS_BITS = 32,
    parameter USER_BITS = 1,
    parameter ID_BITS = 1,
    parameter SIZE_BYTES = 65536
) (
    input wire clk,
    input wire rst,

    input wire [ID_BITS-1:0] awid,
    input wire [ADDRESS_BITS-1:0] awaddr,
    input wire [7:0] awlen,
    input wire [2:0] awsize,
    input wire [1:0] awburst,
    input wire [USER_BITS-1:0] awuser,
    input wire awvalid,
    output reg awready,

    input wire [DATA_BITS-1:0] wdata,
    input wire [DATA_BITS/8-1:0] wstrb,
    input wire wlast,
    input wire wvalid,
    output reg wready,

    output reg [ID_BITS-1:0] bid,
    output reg [1:0] bresp,
    output reg bvalid,
    input wire bready,

    input wire [ID_BITS-1:0] arid,
    input wire [ADDRESS_BITS-1:0] araddr,
    input wire [7:0] arlen,
    input wire [2:0] arsize,
    input wire [1:0] arburst,
    input wire [USER_BITS-1:0] aruser,
    input wire arvalid,
    output reg arready,

    output reg [ID_BITS-1:0] rid,
    output reg [DATA_BITS-1:0] rdata,
    output reg [1:0] rresp,
    output reg rlast,
    output reg rvalid,
    input wire rready,

    input wire [ID_BITS-1:0] cpu_awid,
    input wire [ADDRESS_BITS-1:0] cpu_awaddr,
    input wire [7:0] cpu_awlen,
    input wire [2:0] cpu_awsize,
    input wire [1:0] cpu_awburst,
    input wire [USER_BITS-1:0] cpu_awuser,
    input wire cpu_awvalid,
    output reg cpu_awready,

    input wire [DATA_BITS-1:0] cpu_wdata,
    input wire [DATA_BITS/8-1:0] cpu_wstrb,
    input wire cpu_wlast,
    input wire cpu_wvalid,
    output reg cpu_wready,

    output reg [ID_BITS-1:0] cpu_bid,
    output reg [1:0] cpu_bresp,
    output reg cpu_bvalid,
    input wire cpu_bready,

    input wire [ID_BITS-1:0] cpu_arid,
    input wire [ADDRESS_BITS-1:0] cpu_araddr,
    input wire [7:0] cpu_arlen,
    input wire [2:0] cpu_arsize,
    input wire [1:0] cpu_arburst,
    input wire [USER_BITS-1:0] cpu_aruser,
    input wire cpu_arvalid,
    output reg cpu_arready,

    output reg [ID_BITS-1:0] cpu_rid,
    output reg [DATA_BITS-1:0] cpu_rdata,
    output reg [1:0] cpu_rresp,
    output reg cpu_rlast,
    output reg cpu_rvalid,
    input wire cpu_rready
);
    localparam BYTES = DATA_BITS / 8;
    localparam BYTES_LOG2 = $clog2(BYTES);
    localparam WORDS = SIZE_BYTES / BYTES;
    localparam BURSTS = 256;     // queued in each direction
    localparam BEATS = 1024;     // of write data that came before its address
    localparam [1:0] OKAY = 2'd0, SLVERR = 2'd2, DECERR = 2'd3;
    localparam [7:0] READ_BEAT = 8'd0, WRITE_BEAT = 8'd1, READ_BURST = 8'd2, WRITE_BURST = 8'd3;
    localparam [31:0] PROCESSOR = 32'h8000_0000;  // in the log's `user` of the processor's accesses

    // ---- What the testbench sets ----
    reg [7:0] latency_cycles /* verilator public_flat_rw */ = 8'd1;
    reg [7:0] stall_aw /* verilator public_flat_rw */ = 8'd0;
    reg [7:0] stall_w /* verilator public_flat_rw */ = 8'd0;
    reg [7:0] stall_b /* verilator public_flat_rw */ = 8'd0;
    reg [7:0] stall_ar /* verilator public_flat_rw */ = 8'd0;
    reg [7:0] stall_r /* verilator public_flat_rw */ = 8'd0;
    reg stop_aw /* verilator public_flat_rw */ = 1'b0;
    reg stop_w /* verilator public_flat_rw */ = 1'b0;
    reg stop_b /* verilator public_flat_rw */ = 1'b0;
    reg stop_ar /* verilator public_flat_rw */ = 1'b0;
    reg stop_r /* verilator public_flat_rw */ = 1'b0;
    reg [31:0] seed /* verilator public_flat_rw */ = 32'd1;
    reg [63:0] window0_start /* verilator public_flat_rw */ = 64'd0;
    reg [63:0] window0_end /* verilator public_flat_rw */ = 64'd0;
    reg [63:0] window1_start /* verilator public_flat_rw */ = 64'd0;
    reg [63:0] window1_end /* verilator public_flat_rw */ = 64'd0;
    reg [63:0] window2_start /* verilator public_flat_rw */ = 64'd0;
    reg [63:0] window2_end /* verilator public_flat_rw */ = 64'd0;
    reg [63:0] window3_start /* verilator public_flat_rw */ = 64'd0;
    reg [63:0] window3_end /* verilator public_flat_rw */ = 64'd0;
    reg [3:0] window_read /* verilator public_flat_rw */ = 4'd0;   // windows that refuse reads
    reg [3:0] window_write /* verilator public_flat_rw */ = 4'd0;  // windows that refuse writes
    // While it is low, nobody drives the processor's port, and whatever is on its wires is nothing.
    reg cpu_enable /* verilator public_flat_rw */ = 1'b0;
    reg log_enable /* verilator public_flat_rw */ = 1'b1;
    reg [63:0] backdoor_address /* verilator public_flat_rw */ = 64'd0;
    reg [63:0] backdoor_bytes /* verilator public_flat_rw */ = 64'd0;
    reg load_toggle /* verilator public_flat_rw */ = 1'b0;
    reg dump_toggle /* verilator public_flat_rw */ = 1'b0;
    reg flush_toggle /* verilator public_flat_rw */ = 1'b0;

    // ---- What the testbench reads ----
    reg [63:0] cycle /* verilator public_flat_rw */ = 64'd0;       // clock edges seen
    reg [DATA_BITS-1:0] mem [0:WORDS-1] /* verilator public_flat_rw */;
    integer word;
    initial for (word = 0; word < WORDS; word = word + 1) mem[word] = {DATA_BITS{1'b0}};

    // ---- Queues ----
    reg [ADDRESS_BITS-1:0] ar_address [0:BURSTS-1];
    reg [7:0] ar_len [0:BURSTS-1];
    reg [ID_BITS-1:0] ar_id [0:BURSTS-1];
    reg [USER_BITS-1:0] ar_user [0:BURSTS-1];
    reg [63:0] ar_due [0:BURSTS-1];
    integer ar_head = 0, ar_count = 0;
    reg [7:0] r_beat = 8'd0;         // of the burst at the head

    reg [ADDRESS_BITS-1:0] aw_address [0:BURSTS-1];
    reg [7:0] aw_len [0:BURSTS-1];
    reg [ID_BITS-1:0] aw_id [0:BURSTS-1];
    reg [USER_BITS-1:0] aw_user [0:BURSTS-1];
    integer aw_head = 0, aw_count = 0;
    reg [7:0] w_beat = 8'd0;         // of the burst at the head
    reg [1:0] w_response = OKAY;     // the worst of its beats so far

    reg [DATA_BITS-1:0] w_data [0:BEATS-1];
    reg [BYTES-1:0] w_strobes [0:BEATS-1];
    reg w_lasts [0:BEATS-1];
    integer w_head = 0, w_count = 0;

    reg [ID_BITS-1:0] b_id [0:BURSTS-1];
    reg [1:0] b_response [0:BURSTS-1];
    reg [63:0] b_due [0:BURSTS-1];
    integer b_head = 0, b_count = 0;
    integer writes = 0;              // between the address's handshake and the response's

    // ---- The processor's port: a burst in each direction ----
    reg [ADDRESS_BITS-1:0] cpu_read_address;
    reg [7:0] cpu_read_len;
    reg [ID_BITS-1:0] cpu_read_id;
    reg [USER_BITS-1:0] cpu_read_user;
    reg [7:0] cpu_read_beat;
    reg cpu_reading = 1'b0;          // from the address's handshake until the last beat's offer

    reg [ADDRESS_BITS-1:0] cpu_write_address;
    reg [7:0] cpu_write_len;
    reg [ID_BITS-1:0] cpu_write_id;
    reg [USER_BITS-1:0] cpu_write_user;
    reg [7:0] cpu_write_beat;
    reg [1:0] cpu_write_response;
    reg cpu_writing = 1'b0;          // from the address's handshake until the last beat's
    reg cpu_answering = 1'b0;        // from then until the response's offer

    // ---- Stalls: one generator per channel ----
    reg [31:0] random_aw = 32'd0, random_w = 32'd0, random_b = 32'd0;
    reg [31:0] random_ar = 32'd0, random_r = 32'd0;
    reg [31:0] seed_used = 32'd0;

    function [31:0] next_random(input [31:0] state);
        reg [31:0] x;
        begin
            x = state ^ (state << 13);
            x = x ^ (x >> 17);
            next_random = x ^ (x << 5);
        end
    endfunction

    // A state of xorshift must not be 0.
    function [31:0] seeded(input [31:0] channel);
        seeded = next_random(next_random((seed * 32'h9E3779B1 + channel * 32'h85EBCA6B) | 32'd1));
    endfunction

    function [1:0] response_of(input [63:0] address, input [3:0] windows);
        begin
            response_of = OKAY;
            if (windows != 4'd0 && (
                    windows[0] && address >= window0_start && address < window0_end ||
                    windows[1] && address >= window1_start && address < window1_end ||
                    windows[2] && address >= window2_start && address < window2_end ||
                    windows[3] && address >= window3_start && address < window3_end))
                response_of = SLVERR;
            if (address >= SIZE_BYTES)
                response_of = DECERR;
        end
    endfunction

    function [63:0] beat_address(input [ADDRESS_BITS-1:0] address, input [7:0] beat);
        beat_address = ((64'(address) >> BYTES_LOG2) + 64'(beat)) << BYTES_LOG2;
    endfunction

    // ---- Rules that end the simulation ----
    task require_whole_beats(input [8*5-1:0] kind, input [1:0] burst, input [2:0] size);
        if (burst != 2'd1 || size != BYTES_LOG2)
            $fatal(1, "%0s burst must be INCR and of whole beats: type %0d, size %0d",
                   kind, burst, size);
    endtask

    task require_last(input last, input [7:0] len, input [7:0] beat);
        if (last != (beat == len))
            $fatal(1, "WLAST must mark beat %0d of the burst, not beat %0d", len, beat);
    endtask

    // ---- Log ----
    integer log = 0;
    reg [8*512-1:0] log_name;
    initial if ($value$plusargs("memory_log=%s", log_name)) log = $fopen(log_name, "wb");

    integer part;
    task record(input [7:0] kind, input [7:0] info, input [31:0] user,
                input [63:0] address, input [63:0] strobes, input [DATA_BITS-1:0] data);
        if (log != 0 && log_enable) begin
            $fwrite(log, "%u%u%u%u%u%u%u%u", {16'd0, info, kind}, user,
                    cycle[31:0], cycle[63:32], address[31:0], address[63:32],
                    strobes[31:0], strobes[63:32]);
            for (part = 0; part < DATA_BITS / 32; part = part + 1)
                $fwrite(log, "%u", data[32*part +: 32]);
        end
    endtask

    // ---- Backdoor: files load.bin and dump.bin of the simulation's folder ----
    integer file;
    integer next;
    reg [63:0] at;
    // A simulator may also run these blocks when it starts.
    reg load_done = 1'b0, dump_done = 1'b0;
    always @(load_toggle) if (load_toggle != load_done) begin
        load_done = load_toggle;
        file = $fopen("load.bin", "rb");
        if (file == 0) $fatal(1, "cannot open load.bin");
        else begin
            at = backdoor_address;
            next = $fgetc(file);
            while (next >= 0 && at < SIZE_BYTES) begin
                mem[at >> BYTES_LOG2][8*(at % BYTES) +: 8] = next[7:0];
                at = at + 64'd1;
                next = $fgetc(file);
            end
            $fclose(file);
        end
    end

    always @(dump_toggle) if (dump_toggle != dump_done) begin
        dump_done = dump_toggle;
        file = $fopen("dump.bin", "wb");
        if (file == 0) $fatal(1, "cannot open dump.bin");
        else begin
            for (at = backdoor_address >> BYTES_LOG2;
                 (at << BYTES_LOG2) < backdoor_address + backdoor_bytes; at = at + 64'd1)
                for (part = 0; part < DATA_BITS / 32; part = part + 1)
                    $fwrite(file, "%u", mem[at][32*part +: 32]);
            $fclose(file);
        end
    end

    always @(flush_toggle) if (log != 0) $fflush(log);

    // ---- The memory ----
    integer lane;
    task write_beat(input [63:0] address, input [BYTES-1:0] strobes, input [DATA_BITS-1:0] data,
                    input [31:0] user, output [1:0] response);
        begin
            response = response_of(address, window_write);
            if (response == OKAY)
                for (lane = 0; lane < BYTES; lane = lane + 1)
                    if (strobes[lane])
                        mem[address >> BYTES_LOG2][8*lane +: 8] = data[8*lane +: 8];
            record(WRITE_BEAT, {6'd0, response}, user, address, 64'(strobes), data);
        end
    endtask

    task read_beat(input [63:0] address, input [31:0] user, output [1:0] response,
                   output [DATA_BITS-1:0] data);
        begin
            response = response_of(address, window_read);
            data = response == OKAY ? mem[address >> BYTES_LOG2] : {DATA_BITS{1'b1}};
            record(READ_BEAT, {6'd0, response}, user, address, 64'd0, data);
        end
    endtask

    integer slot;
    reg [1:0] response;
    reg [DATA_BITS-1:0] data;
    always @(posedge clk) begin
        if (seed != seed_used) begin
            seed_used = seed;
            random_aw = seeded(1);
            random_w = seeded(2);
            random_b = seeded(3);
            random_ar = seeded(4);
            random_r = seeded(5);
        end
        if (stall_aw != 0) random_aw = next_random(random_aw);
        if (stall_w != 0) random_w = next_random(random_w);
        if (stall_b != 0) random_b = next_random(random_b);
        if (stall_ar != 0) random_ar = next_random(random_ar);
        if (stall_r != 0) random_r = next_random(random_r);

        // Transfers of the cycle that ends.
        if (arvalid && arready) begin
            require_whole_beats("read", arburst, arsize);
            slot = (ar_head + ar_count) % BURSTS;
            ar_address[slot] = araddr;
            ar_len[slot] = arlen;
            ar_id[slot] = arid;
            ar_user[slot] = aruser;
            ar_due[slot] = cycle + 64'(latency_cycles);
            ar_count = ar_count + 1;
            record(READ_BURST, arlen, 32'(aruser), 64'(araddr), 64'd0, {DATA_BITS{1'b0}});
        end
        if (awvalid && awready) begin
            require_whole_beats("write", awburst, awsize);
            slot = (aw_head + aw_count) % BURSTS;
            aw_address[slot] = awaddr;
            aw_len[slot] = awlen;
            aw_id[slot] = awid;
            aw_user[slot] = awuser;
            aw_count = aw_count + 1;
            writes = writes + 1;
            record(WRITE_BURST, awlen, 32'(awuser), 64'(awaddr), 64'd0, {DATA_BITS{1'b0}});
        end
        if (wvalid && wready) begin
            slot = (w_head + w_count) % BEATS;
            w_data[slot] = wdata;
            w_strobes[slot] = wstrb;
            w_lasts[slot] = wlast;
            w_count = w_count + 1;
        end
        if (bvalid && bready) writes = writes - 1;

        // Writes take effect as soon as both address and data are there.
        while (w_count > 0 && aw_count > 0) begin
            write_beat(beat_address(aw_address[aw_head], w_beat), w_strobes[w_head],
                       w_data[w_head], 32'(aw_user[aw_head]), response);
            if (response > w_response) w_response = response;
            require_last(w_lasts[w_head], aw_len[aw_head], w_beat);
            if (w_beat == aw_len[aw_head]) begin
                slot = (b_head + b_count) % BURSTS;
                b_id[slot] = aw_id[aw_head];
                b_response[slot] = w_response;
                b_due[slot] = cycle + 64'(latency_cycles);
                b_count = b_count + 1;
                aw_head = (aw_head + 1) % BURSTS;
                aw_count = aw_count - 1;
                w_beat = 8'd0;
                w_response = OKAY;
            end else
                w_beat = w_beat + 8'd1;
            w_head = (w_head + 1) % BEATS;
            w_count = w_count - 1;
        end

        // The same on the processor's port.
        if (cpu_enable) begin
            if (cpu_arvalid && cpu_arready) begin
                require_whole_beats("read", cpu_arburst, cpu_arsize);
                cpu_read_address = cpu_araddr;
                cpu_read_len = cpu_arlen;
                cpu_read_id = cpu_arid;
                cpu_read_user = cpu_aruser;
                cpu_read_beat = 8'd0;
                cpu_reading = 1'b1;
                record(READ_BURST, cpu_arlen, PROCESSOR | 32'(cpu_aruser), 64'(cpu_araddr), 64'd0,
                       {DATA_BITS{1'b0}});
            end
            if (cpu_awvalid && cpu_awready) begin
                require_whole_beats("write", cpu_awburst, cpu_awsize);
                cpu_write_address = cpu_awaddr;
                cpu_write_len = cpu_awlen;
                cpu_write_id = cpu_awid;
                cpu_write_user = cpu_awuser;
                cpu_write_beat = 8'd0;
                cpu_write_response = OKAY;
                cpu_writing = 1'b1;
                record(WRITE_BURST, cpu_awlen, PROCESSOR | 32'(cpu_awuser), 64'(cpu_awaddr), 64'd0,
                       {DATA_BITS{1'b0}});
            end
            if (cpu_wvalid && cpu_wready) begin
                write_beat(beat_address(cpu_write_address, cpu_write_beat), cpu_wstrb, cpu_wdata,
                           PROCESSOR | 32'(cpu_write_user), response);
                if (response > cpu_write_response) cpu_write_response = response;
                require_last(cpu_wlast, cpu_write_len, cpu_write_beat);
                if (cpu_write_beat == cpu_write_len) begin
                    cpu_writing = 1'b0;
                    cpu_answering = 1'b1;
                end
                cpu_write_beat = cpu_write_beat + 8'd1;
            end
        end

        // What is offered in the cycle that begins.
        cycle = cycle + 64'd1;
        if (!rvalid || rready) begin
            rvalid <= 1'b0;
            if (ar_count > 0 && ar_due[ar_head] <= cycle && random_r[7:0] >= stall_r
                    && !stop_r) begin
                read_beat(beat_address(ar_address[ar_head], r_beat), 32'(ar_user[ar_head]),
                          response, data);
                rvalid <= 1'b1;
                rid <= ar_id[ar_head];
                rdata <= data;
                rresp <= response;
                rlast <= r_beat == ar_len[ar_head];
                if (r_beat == ar_len[ar_head]) begin
                    ar_head = (ar_head + 1) % BURSTS;
                    ar_count = ar_count - 1;
                    r_beat = 8'd0;
                end else
                    r_beat = r_beat + 8'd1;
            end
        end
        if (!bvalid || bready) begin
            bvalid <= 1'b0;
            if (b_count > 0 && b_due[b_head] <= cycle && random_b[7:0] >= stall_b
                    && !stop_b) begin
                bvalid <= 1'b1;
                bid <= b_id[b_head];
                bresp <= b_response[b_head];
                b_head = (b_head + 1) % BURSTS;
                b_count = b_count - 1;
            end
        end
        arready <= ar_count < BURSTS && random_ar[7:0] >= stall_ar && !stop_ar;
        awready <= writes < BURSTS && random_aw[7:0] >= stall_aw && !stop_aw;
        wready <= w_count < BEATS - 1 && random_w[7:0] >= stall_w && !stop_w;

        if (!cpu_rvalid || cpu_rready) begin
            cpu_rvalid <= cpu_reading;
            if (cpu_reading) begin
                read_beat(beat_address(cpu_read_address, cpu_read_beat),
                          PROCESSOR | 32'(cpu_read_user), response, data);
                cpu_rid <= cpu_read_id;
                cpu_rdata <= data;
                cpu_rresp <= response;
                cpu_rlast <= cpu_read_beat == cpu_read_len;
                cpu_reading = cpu_read_beat != cpu_read_len;
                cpu_read_beat = cpu_read_beat + 8'd1;
            end
        end
        if (!cpu_bvalid || cpu_bready) begin
            cpu_bvalid <= cpu_answering;
            cpu_bid <= cpu_write_id;
            cpu_bresp <= cpu_write_response;
            cpu_answering = 1'b0;
        end
        cpu_arready <= cpu_enable && !cpu_reading;
        cpu_awready <= cpu_enable && !cpu_writing && !cpu_answering;
        cpu_wready <= cpu_enable && cpu_writing;

        if (rst) begin
            ar_count = 0;
            aw_count = 0;
            w_count = 0;
            b_count = 0;
            writes = 0;
            r_beat = 8'd0;
            w_beat = 8'd0;
            w_response = OKAY;
            awready <= 1'b0;
            wready <= 1'b0;
            arready <= 1'b0;
            bvalid <= 1'b0;
            rvalid <= 1'b0;
            cpu_reading = 1'b0;
            cpu_writing = 1'b0;
            cpu_answering = 1'b0;
            cpu_awready <= 1'b0;
            cpu_wready <= 1'b0;
            cpu_arready <= 1'b0;
            cpu_bvalid <= 1'b0;
            cpu_rvalid <= 1'b0;
        end
    end
endmodule
