// SPDX-License-Identifier: Apache-2.0
// The block RAMs of Gowin's GW1N and GW2A as Yosys uses them, for simulation: Yosys's own models
// are empty boxes.
//
// 2048 bytes. A port of 8, 16 or 32 bits (9, 18 or 36 with a parity bit to each byte) sees 1, 2 or
// 4 of them at once, the first one in the lowest bits; one of 1, 2 or 4 bits sees part of a byte.
// Ports of two and four bytes have a write enable per byte in the lowest bits of the address.
//
// What the real one leaves open is random here: a byte that one port reads or writes while the
// other one writes it.
//
// Names and meanings: Gowin UG285, "BSRAM & SSRAM User Guide", and Yosys's brams.txt of Gowin. One
// clock, no output registers; what is not modelled ends the simulation.

`default_nettype none

module mvxl_gowin_bsram #(
  parameter integer BYTE_BITS = 8, WIDTH_A = 16, WIDTH_B = 16, PINS = 16,
  parameter RESET_MODE = "SYNC",
  parameter [1:0] WRITE_MODE_A = 0, WRITE_MODE_B = 0,
  parameter [2048 * BYTE_BITS - 1:0] INIT = 0
) (
  input CLKA, CEA, WREA, RESETA, input [13:0] ADA, input [PINS - 1:0] DIA,
  input CLKB, CEB, WREB, RESETB, input [13:0] ADB, input [PINS - 1:0] DIB,
  output reg [PINS - 1:0] DOA, DOB
);
  localparam integer LANES_A = WIDTH_A < 8 ? 1 : WIDTH_A / BYTE_BITS;
  localparam integer LANES_B = WIDTH_B < 8 ? 1 : WIDTH_B / BYTE_BITS;

  // The byte that a lane of a port is at.
  function automatic [10:0] place(input [13:0] address, input integer lanes, input integer lane);
    return (address[13:3] & ~11'(lanes - 1)) | 11'(lane);
  endfunction

  // The bit of a byte at which a port's data begin, and the bits that it sees.
  function automatic integer first_bit(input [13:0] address, input integer width);
    return width < 8 ? 32'(address[2:0]) & ~(width - 1) : 0;
  endfunction

  function automatic [BYTE_BITS - 1:0] seen(input [13:0] address, input integer width);
    return width < 8 ? BYTE_BITS'(((1 << width) - 1) << first_bit(address, width)) : '1;
  endfunction

  function automatic enabled(input [13:0] address, input integer lanes, input integer lane);
    return lanes == 1 || address[lane];
  endfunction

  reg [BYTE_BITS - 1:0] bytes [2048];
  integer i, j;

  initial begin
    DOA = 0;
    DOB = 0;
    for (i = 0; i < 2048; i = i + 1)
      bytes[i] = INIT[BYTE_BITS * i +: BYTE_BITS];
  end

  wire write_a = CEA && WREA, write_b = CEB && WREB;
  reg [BYTE_BITS - 1:0] found, stored;

  always @(posedge CLKA) begin
    if (CLKB !== CLKA || RESET_MODE != "SYNC" && (RESETA || RESETB))
      $fatal(1, "Gowin block RAM: two clocks, or a reset without clock, are not modelled");

    // Reads, of what was stored before this edge. Modes: 0 keeps the output while the port writes,
    // 1 shows what is written, 2 what was there.
    if (RESETA)
      DOA <= 0;
    else if (CEA && !(WREA && WRITE_MODE_A == 0))
      for (i = 0; i < LANES_A; i = i + 1) begin
        found = bytes[place(ADA, LANES_A, i)];
        if (WREA && WRITE_MODE_A == 1 && enabled(ADA, LANES_A, i))
          found = DIA[BYTE_BITS * i +: BYTE_BITS] << first_bit(ADA, WIDTH_A);
        for (j = 0; j < LANES_B; j = j + 1)
          if (write_b && enabled(ADB, LANES_B, j)
              && place(ADB, LANES_B, j) == place(ADA, LANES_A, i))
            found = found ^ (BYTE_BITS'($urandom) & seen(ADB, WIDTH_B));
        DOA[BYTE_BITS * i +: BYTE_BITS] <= found >> first_bit(ADA, WIDTH_A);
      end
    if (RESETB)
      DOB <= 0;
    else if (CEB && !(WREB && WRITE_MODE_B == 0))
      for (i = 0; i < LANES_B; i = i + 1) begin
        found = bytes[place(ADB, LANES_B, i)];
        if (WREB && WRITE_MODE_B == 1 && enabled(ADB, LANES_B, i))
          found = DIB[BYTE_BITS * i +: BYTE_BITS] << first_bit(ADB, WIDTH_B);
        for (j = 0; j < LANES_A; j = j + 1)
          if (write_a && enabled(ADA, LANES_A, j)
              && place(ADA, LANES_A, j) == place(ADB, LANES_B, i))
            found = found ^ (BYTE_BITS'($urandom) & seen(ADA, WIDTH_A));
        DOB[BYTE_BITS * i +: BYTE_BITS] <= found >> first_bit(ADB, WIDTH_B);
      end

    // Writes.
    if (write_a)
      for (i = 0; i < LANES_A; i = i + 1)
        if (enabled(ADA, LANES_A, i))
          bytes[place(ADA, LANES_A, i)] =
            bytes[place(ADA, LANES_A, i)] & ~seen(ADA, WIDTH_A)
            | (DIA[BYTE_BITS * i +: BYTE_BITS] << first_bit(ADA, WIDTH_A)) & seen(ADA, WIDTH_A);
    if (write_b)
      for (i = 0; i < LANES_B; i = i + 1)
        if (enabled(ADB, LANES_B, i)) begin
          stored =
            bytes[place(ADB, LANES_B, i)] & ~seen(ADB, WIDTH_B)
            | (DIB[BYTE_BITS * i +: BYTE_BITS] << first_bit(ADB, WIDTH_B)) & seen(ADB, WIDTH_B);
          for (j = 0; j < LANES_A; j = j + 1)
            if (write_a && enabled(ADA, LANES_A, j)
                && place(ADA, LANES_A, j) == place(ADB, LANES_B, i))
              stored = stored ^ (BYTE_BITS'($urandom) & seen(ADA, WIDTH_A) & seen(ADB, WIDTH_B));
          bytes[place(ADB, LANES_B, i)] = stored;
        end
  end
endmodule

// The contents at the start, in rows of 32 bytes.
`define MVXL_INIT \
    INIT_RAM_00 = 0, INIT_RAM_01 = 0, INIT_RAM_02 = 0, INIT_RAM_03 = 0, INIT_RAM_04 = 0, \
    INIT_RAM_05 = 0, INIT_RAM_06 = 0, INIT_RAM_07 = 0, INIT_RAM_08 = 0, INIT_RAM_09 = 0, \
    INIT_RAM_0A = 0, INIT_RAM_0B = 0, INIT_RAM_0C = 0, INIT_RAM_0D = 0, INIT_RAM_0E = 0, \
    INIT_RAM_0F = 0, INIT_RAM_10 = 0, INIT_RAM_11 = 0, INIT_RAM_12 = 0, INIT_RAM_13 = 0, \
    INIT_RAM_14 = 0, INIT_RAM_15 = 0, INIT_RAM_16 = 0, INIT_RAM_17 = 0, INIT_RAM_18 = 0, \
    INIT_RAM_19 = 0, INIT_RAM_1A = 0, INIT_RAM_1B = 0, INIT_RAM_1C = 0, INIT_RAM_1D = 0, \
    INIT_RAM_1E = 0, INIT_RAM_1F = 0, INIT_RAM_20 = 0, INIT_RAM_21 = 0, INIT_RAM_22 = 0, \
    INIT_RAM_23 = 0, INIT_RAM_24 = 0, INIT_RAM_25 = 0, INIT_RAM_26 = 0, INIT_RAM_27 = 0, \
    INIT_RAM_28 = 0, INIT_RAM_29 = 0, INIT_RAM_2A = 0, INIT_RAM_2B = 0, INIT_RAM_2C = 0, \
    INIT_RAM_2D = 0, INIT_RAM_2E = 0, INIT_RAM_2F = 0, INIT_RAM_30 = 0, INIT_RAM_31 = 0, \
    INIT_RAM_32 = 0, INIT_RAM_33 = 0, INIT_RAM_34 = 0, INIT_RAM_35 = 0, INIT_RAM_36 = 0, \
    INIT_RAM_37 = 0, INIT_RAM_38 = 0, INIT_RAM_39 = 0, INIT_RAM_3A = 0, INIT_RAM_3B = 0, \
    INIT_RAM_3C = 0, INIT_RAM_3D = 0, INIT_RAM_3E = 0, INIT_RAM_3F = 0
`define MVXL_ALL_INIT \
    INIT_RAM_3F, INIT_RAM_3E, INIT_RAM_3D, INIT_RAM_3C, INIT_RAM_3B, INIT_RAM_3A, INIT_RAM_39, \
    INIT_RAM_38, INIT_RAM_37, INIT_RAM_36, INIT_RAM_35, INIT_RAM_34, INIT_RAM_33, INIT_RAM_32, \
    INIT_RAM_31, INIT_RAM_30, INIT_RAM_2F, INIT_RAM_2E, INIT_RAM_2D, INIT_RAM_2C, INIT_RAM_2B, \
    INIT_RAM_2A, INIT_RAM_29, INIT_RAM_28, INIT_RAM_27, INIT_RAM_26, INIT_RAM_25, INIT_RAM_24, \
    INIT_RAM_23, INIT_RAM_22, INIT_RAM_21, INIT_RAM_20, INIT_RAM_1F, INIT_RAM_1E, INIT_RAM_1D, \
    INIT_RAM_1C, INIT_RAM_1B, INIT_RAM_1A, INIT_RAM_19, INIT_RAM_18, INIT_RAM_17, INIT_RAM_16, \
    INIT_RAM_15, INIT_RAM_14, INIT_RAM_13, INIT_RAM_12, INIT_RAM_11, INIT_RAM_10, INIT_RAM_0F, \
    INIT_RAM_0E, INIT_RAM_0D, INIT_RAM_0C, INIT_RAM_0B, INIT_RAM_0A, INIT_RAM_09, INIT_RAM_08, \
    INIT_RAM_07, INIT_RAM_06, INIT_RAM_05, INIT_RAM_04, INIT_RAM_03, INIT_RAM_02, INIT_RAM_01, \
    INIT_RAM_00

module DPB #(
  parameter integer BIT_WIDTH_0 = 16, BIT_WIDTH_1 = 16,
  parameter READ_MODE0 = 0, READ_MODE1 = 0, RESET_MODE = "SYNC",
  parameter [1:0] WRITE_MODE0 = 0, WRITE_MODE1 = 0,
  parameter [2:0] BLK_SEL_0 = 0, BLK_SEL_1 = 0,
  parameter [255:0]
`MVXL_INIT
) (
  input CLKA, CEA, OCEA, RESETA, WREA, CLKB, CEB, OCEB, RESETB, WREB,
  input [13:0] ADA, ADB, input [15:0] DIA, DIB, input [2:0] BLKSELA, BLKSELB,
  output [15:0] DOA, DOB
);
  initial
    if (READ_MODE0 != 0 || READ_MODE1 != 0)
      $fatal(1, "DPB: a mode that is not modelled");

  mvxl_gowin_bsram #(
    .BYTE_BITS(8), .WIDTH_A(BIT_WIDTH_0), .WIDTH_B(BIT_WIDTH_1), .PINS(16),
    .RESET_MODE(RESET_MODE), .WRITE_MODE_A(WRITE_MODE0), .WRITE_MODE_B(WRITE_MODE1), .INIT({
`MVXL_ALL_INIT
  })) ram (
    .CLKA, .CEA(CEA && BLKSELA == BLK_SEL_0), .WREA, .RESETA, .ADA, .DIA, .DOA,
    .CLKB, .CEB(CEB && BLKSELB == BLK_SEL_1), .WREB, .RESETB, .ADB, .DIB, .DOB);
endmodule

module DPX9B #(
  parameter integer BIT_WIDTH_0 = 18, BIT_WIDTH_1 = 18,
  parameter READ_MODE0 = 0, READ_MODE1 = 0, RESET_MODE = "SYNC",
  parameter [1:0] WRITE_MODE0 = 0, WRITE_MODE1 = 0,
  parameter [2:0] BLK_SEL_0 = 0, BLK_SEL_1 = 0,
  parameter [287:0]
`MVXL_INIT
) (
  input CLKA, CEA, OCEA, RESETA, WREA, CLKB, CEB, OCEB, RESETB, WREB,
  input [13:0] ADA, ADB, input [17:0] DIA, DIB, input [2:0] BLKSELA, BLKSELB,
  output [17:0] DOA, DOB
);
  initial
    if (READ_MODE0 != 0 || READ_MODE1 != 0)
      $fatal(1, "DPX9B: a mode that is not modelled");

  mvxl_gowin_bsram #(
    .BYTE_BITS(9), .WIDTH_A(BIT_WIDTH_0), .WIDTH_B(BIT_WIDTH_1), .PINS(18),
    .RESET_MODE(RESET_MODE), .WRITE_MODE_A(WRITE_MODE0), .WRITE_MODE_B(WRITE_MODE1), .INIT({
`MVXL_ALL_INIT
  })) ram (
    .CLKA, .CEA(CEA && BLKSELA == BLK_SEL_0), .WREA, .RESETA, .ADA, .DIA, .DOA,
    .CLKB, .CEB(CEB && BLKSELB == BLK_SEL_1), .WREB, .RESETB, .ADB, .DIB, .DOB);
endmodule

module SDPB #(
  parameter integer BIT_WIDTH_0 = 32, BIT_WIDTH_1 = 32,
  parameter READ_MODE = 0, RESET_MODE = "SYNC",
  parameter [2:0] BLK_SEL_0 = 0, BLK_SEL_1 = 0,
  parameter [255:0]
`MVXL_INIT
) (
  input CLKA, CEA, RESETA, CLKB, CEB, OCE, RESETB,
  input [13:0] ADA, ADB, input [31:0] DI, input [2:0] BLKSELA, BLKSELB,
  output [31:0] DO
);
  initial
    if (READ_MODE != 0)
      $fatal(1, "SDPB: a mode that is not modelled");

  wire [31:0] unused;
  mvxl_gowin_bsram #(
    .BYTE_BITS(8), .WIDTH_A(BIT_WIDTH_0), .WIDTH_B(BIT_WIDTH_1), .PINS(32),
    .RESET_MODE(RESET_MODE), .INIT({
`MVXL_ALL_INIT
  })) ram (
    .CLKA, .CEA(CEA && BLKSELA == BLK_SEL_0), .WREA(1'b1), .RESETA, .ADA, .DIA(DI), .DOA(unused),
    .CLKB, .CEB(CEB && BLKSELB == BLK_SEL_1), .WREB(1'b0), .RESETB, .ADB, .DIB(32'b0),
    .DOB(DO));
endmodule

module SDPX9B #(
  parameter integer BIT_WIDTH_0 = 36, BIT_WIDTH_1 = 36,
  parameter READ_MODE = 0, RESET_MODE = "SYNC",
  parameter [2:0] BLK_SEL_0 = 0, BLK_SEL_1 = 0,
  parameter [287:0]
`MVXL_INIT
) (
  input CLKA, CEA, RESETA, CLKB, CEB, OCE, RESETB,
  input [13:0] ADA, ADB, input [35:0] DI, input [2:0] BLKSELA, BLKSELB,
  output [35:0] DO
);
  initial
    if (READ_MODE != 0)
      $fatal(1, "SDPX9B: a mode that is not modelled");

  wire [35:0] unused;
  mvxl_gowin_bsram #(
    .BYTE_BITS(9), .WIDTH_A(BIT_WIDTH_0), .WIDTH_B(BIT_WIDTH_1), .PINS(36),
    .RESET_MODE(RESET_MODE), .INIT({
`MVXL_ALL_INIT
  })) ram (
    .CLKA, .CEA(CEA && BLKSELA == BLK_SEL_0), .WREA(1'b1), .RESETA, .ADA, .DIA(DI), .DOA(unused),
    .CLKB, .CEB(CEB && BLKSELB == BLK_SEL_1), .WREB(1'b0), .RESETB, .ADB, .DIB(36'b0),
    .DOB(DO));
endmodule
