// SPDX-License-Identifier: Apache-2.0
// The block RAM of the ECP5 as Yosys uses it, for simulation: Yosys's own model is an empty box.
//
// 2048 bytes of 9 bits. A port of 9, 18 or 36 bits sees 1, 2 or 4 of them at once, the first one in
// the lowest bits; one of 1, 2 or 4 bits sees a part of the lower 8 bits of one. Ports of 18 and 36
// bits have a write enable per byte in the lowest bits of the address. If a port has 36 bits, the
// other's pins are their upper half: A then only writes and B only reads.
//
// What the real one leaves open is random here: bytes at the start, as if it had been in use before
// a reset (unless it is given contents), and a byte that one port reads or writes while the other
// one writes it.
//
// Names and meanings: Lattice FPGA-TN-02204, "ECP5 and ECP5-5G Memory User Guide", and Yosys's
// brams_16kd.txt. One clock; what is not modelled ends the simulation.

`default_nettype none

module DP16KD #(
  parameter integer DATA_WIDTH_A = 18, DATA_WIDTH_B = 18,
  parameter REGMODE_A = "NOREG", REGMODE_B = "NOREG",
  parameter RESETMODE = "SYNC", ASYNC_RESET_RELEASE = "SYNC",
  parameter CSDECODE_A = "0b000", CSDECODE_B = "0b000",
  parameter WRITEMODE_A = "NORMAL", WRITEMODE_B = "NORMAL",
  parameter CLKAMUX = "CLKA", CLKBMUX = "CLKB",
  parameter GSR = "DISABLED",
  parameter [319:0]
    INITVAL_00 = 0, INITVAL_01 = 0, INITVAL_02 = 0, INITVAL_03 = 0, INITVAL_04 = 0,
    INITVAL_05 = 0, INITVAL_06 = 0, INITVAL_07 = 0, INITVAL_08 = 0, INITVAL_09 = 0,
    INITVAL_0A = 0, INITVAL_0B = 0, INITVAL_0C = 0, INITVAL_0D = 0, INITVAL_0E = 0,
    INITVAL_0F = 0, INITVAL_10 = 0, INITVAL_11 = 0, INITVAL_12 = 0, INITVAL_13 = 0,
    INITVAL_14 = 0, INITVAL_15 = 0, INITVAL_16 = 0, INITVAL_17 = 0, INITVAL_18 = 0,
    INITVAL_19 = 0, INITVAL_1A = 0, INITVAL_1B = 0, INITVAL_1C = 0, INITVAL_1D = 0,
    INITVAL_1E = 0, INITVAL_1F = 0, INITVAL_20 = 0, INITVAL_21 = 0, INITVAL_22 = 0,
    INITVAL_23 = 0, INITVAL_24 = 0, INITVAL_25 = 0, INITVAL_26 = 0, INITVAL_27 = 0,
    INITVAL_28 = 0, INITVAL_29 = 0, INITVAL_2A = 0, INITVAL_2B = 0, INITVAL_2C = 0,
    INITVAL_2D = 0, INITVAL_2E = 0, INITVAL_2F = 0, INITVAL_30 = 0, INITVAL_31 = 0,
    INITVAL_32 = 0, INITVAL_33 = 0, INITVAL_34 = 0, INITVAL_35 = 0, INITVAL_36 = 0,
    INITVAL_37 = 0, INITVAL_38 = 0, INITVAL_39 = 0, INITVAL_3A = 0, INITVAL_3B = 0,
    INITVAL_3C = 0, INITVAL_3D = 0, INITVAL_3E = 0, INITVAL_3F = 0
) (
  input CLKA, CEA, OCEA, WEA, RSTA, CSA0, CSA1, CSA2,
  input
    ADA0, ADA1, ADA2, ADA3, ADA4, ADA5, ADA6, ADA7, ADA8, ADA9, ADA10, ADA11, ADA12, ADA13,
  input
    DIA0, DIA1, DIA2, DIA3, DIA4, DIA5, DIA6, DIA7, DIA8, DIA9, DIA10, DIA11, DIA12, DIA13, DIA14,
    DIA15, DIA16, DIA17,
  output
    DOA0, DOA1, DOA2, DOA3, DOA4, DOA5, DOA6, DOA7, DOA8, DOA9, DOA10, DOA11, DOA12, DOA13, DOA14,
    DOA15, DOA16, DOA17,
  input CLKB, CEB, OCEB, WEB, RSTB, CSB0, CSB1, CSB2,
  input
    ADB0, ADB1, ADB2, ADB3, ADB4, ADB5, ADB6, ADB7, ADB8, ADB9, ADB10, ADB11, ADB12, ADB13,
  input
    DIB0, DIB1, DIB2, DIB3, DIB4, DIB5, DIB6, DIB7, DIB8, DIB9, DIB10, DIB11, DIB12, DIB13, DIB14,
    DIB15, DIB16, DIB17,
  output
    DOB0, DOB1, DOB2, DOB3, DOB4, DOB5, DOB6, DOB7, DOB8, DOB9, DOB10, DOB11, DOB12, DOB13, DOB14,
    DOB15, DOB16, DOB17
);
  localparam integer LANES_A = DATA_WIDTH_A < 9 ? 1 : DATA_WIDTH_A / 9;
  localparam integer LANES_B = DATA_WIDTH_B < 9 ? 1 : DATA_WIDTH_B / 9;
  localparam [0:0] WIDE = DATA_WIDTH_A == 36 || DATA_WIDTH_B == 36;

  initial begin
    if (CSDECODE_A != "0b000" || CSDECODE_B != "0b000" || CLKAMUX != "CLKA" || CLKBMUX != "CLKB")
      $fatal(1, "DP16KD: a mode that is not modelled");
  end

  wire [13:0] address_a = {
    ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0};
  wire [13:0] address_b = {
    ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0};
  wire [17:0] data_a = {
    DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4,
    DIA3, DIA2, DIA1, DIA0};
  wire [17:0] data_b = {
    DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4,
    DIB3, DIB2, DIB1, DIB0};
  wire [35:0] write_a_data = {data_b, data_a};
  wire [35:0] write_b_data = {18'b0, data_b};

  // The byte that a lane of a port is at.
  function automatic [10:0] place(input [13:0] address, input integer lanes, input integer lane);
    return (address[13:3] & ~11'(lanes - 1)) | 11'(lane);
  endfunction

  // The bit of a byte at which a port's data begin, and the bits that it sees.
  function automatic integer first_bit(input [13:0] address, input integer width);
    return width < 9 ? 32'(address[2:0]) & ~(width - 1) : 0;
  endfunction

  function automatic [8:0] seen(input [13:0] address, input integer width);
    return width < 9 ? 9'(((1 << width) - 1) << first_bit(address, width)) : 9'h1ff;
  endfunction

  function automatic enabled(input [13:0] address, input integer lanes, input integer lane);
    return lanes == 1 || address[lane];
  endfunction

  reg [8:0] bytes [2048];
  reg [35:0] read_a = 0, read_b = 0;
  reg [35:0] output_a = 0, output_b = 0;
  integer i, j;

  // 16 rows of 18 bits in each INITVAL, 20 bits apart.
  localparam [20479:0] CONTENTS = {
    INITVAL_3F, INITVAL_3E, INITVAL_3D, INITVAL_3C, INITVAL_3B, INITVAL_3A, INITVAL_39, INITVAL_38,
    INITVAL_37, INITVAL_36, INITVAL_35, INITVAL_34, INITVAL_33, INITVAL_32, INITVAL_31, INITVAL_30,
    INITVAL_2F, INITVAL_2E, INITVAL_2D, INITVAL_2C, INITVAL_2B, INITVAL_2A, INITVAL_29, INITVAL_28,
    INITVAL_27, INITVAL_26, INITVAL_25, INITVAL_24, INITVAL_23, INITVAL_22, INITVAL_21, INITVAL_20,
    INITVAL_1F, INITVAL_1E, INITVAL_1D, INITVAL_1C, INITVAL_1B, INITVAL_1A, INITVAL_19, INITVAL_18,
    INITVAL_17, INITVAL_16, INITVAL_15, INITVAL_14, INITVAL_13, INITVAL_12, INITVAL_11, INITVAL_10,
    INITVAL_0F, INITVAL_0E, INITVAL_0D, INITVAL_0C, INITVAL_0B, INITVAL_0A, INITVAL_09, INITVAL_08,
    INITVAL_07, INITVAL_06, INITVAL_05, INITVAL_04, INITVAL_03, INITVAL_02, INITVAL_01, INITVAL_00};

  initial
    for (i = 0; i < 2048; i = i + 1)
      bytes[i] = CONTENTS == 0 ? 9'($urandom) : CONTENTS[20 * (i / 2) + 9 * (i % 2) +: 9];

  wire write_a = CEA && WEA && !RSTA && {CSA2, CSA1, CSA0} == 0;
  wire write_b = CEB && WEB && !RSTB && {CSB2, CSB1, CSB0} == 0;
  reg [8:0] found, stored, disturbed;

  // A port that is not used has none.
  wire clock = CLKA | CLKB;

  // Output registers; a reset clears them, and what is behind them.
  always @(posedge clock) begin
    if (RSTA)
      output_a <= 0;
    else if (OCEA)
      output_a <= read_a;
    if (RSTB)
      output_b <= 0;
    else if (OCEB)
      output_b <= read_b;
  end

  wire [35:0] out_a = REGMODE_A == "OUTREG" ? output_a : read_a;
  wire [35:0] out_b = REGMODE_B == "OUTREG" ? output_b : read_b;

  always @(posedge clock) begin
    if (RESETMODE != "SYNC" && (RSTA || RSTB) || WIDE && WEB)
      $fatal(1, "DP16KD: a use that is not modelled");

    // Reads, of what was stored before this edge.
    if (RSTA)
      read_a <= 0;
    else if (CEA && !(write_a && WRITEMODE_A == "NORMAL"))
      for (i = 0; i < LANES_A; i = i + 1) begin
        found = bytes[place(address_a, LANES_A, i)];
        if (write_a && WRITEMODE_A == "WRITETHROUGH" && enabled(address_a, LANES_A, i))
          found = 9'(write_a_data[9 * i +: 9] << first_bit(address_a, DATA_WIDTH_A));
        for (j = 0; j < LANES_B; j = j + 1)
          if (write_b && enabled(address_b, LANES_B, j)
              && place(address_b, LANES_B, j) == place(address_a, LANES_A, i))
            found = found ^ (9'($urandom) & seen(address_b, DATA_WIDTH_B));
        read_a[9 * i +: 9] <= found >> first_bit(address_a, DATA_WIDTH_A);
      end
    if (RSTB)
      read_b <= 0;
    else if (CEB && !(write_b && WRITEMODE_B == "NORMAL"))
      for (i = 0; i < LANES_B; i = i + 1) begin
        found = bytes[place(address_b, LANES_B, i)];
        if (write_b && WRITEMODE_B == "WRITETHROUGH" && enabled(address_b, LANES_B, i))
          found = 9'(write_b_data[9 * i +: 9] << first_bit(address_b, DATA_WIDTH_B));
        for (j = 0; j < LANES_A; j = j + 1)
          if (write_a && enabled(address_a, LANES_A, j)
              && place(address_a, LANES_A, j) == place(address_b, LANES_B, i))
            found = found ^ (9'($urandom) & seen(address_a, DATA_WIDTH_A));
        read_b[9 * i +: 9] <= found >> first_bit(address_b, DATA_WIDTH_B);
      end

    // Writes.
    if (write_a)
      for (i = 0; i < LANES_A; i = i + 1)
        if (enabled(address_a, LANES_A, i)) begin
          stored = bytes[place(address_a, LANES_A, i)] & ~seen(address_a, DATA_WIDTH_A)
                   | 9'(write_a_data[9 * i +: 9] << first_bit(address_a, DATA_WIDTH_A))
                     & seen(address_a, DATA_WIDTH_A);
          bytes[place(address_a, LANES_A, i)] = stored;
        end
    if (write_b)
      for (i = 0; i < LANES_B; i = i + 1)
        if (enabled(address_b, LANES_B, i)) begin
          stored = bytes[place(address_b, LANES_B, i)] & ~seen(address_b, DATA_WIDTH_B)
                   | 9'(write_b_data[9 * i +: 9] << first_bit(address_b, DATA_WIDTH_B))
                     & seen(address_b, DATA_WIDTH_B);
          for (j = 0; j < LANES_A; j = j + 1)
            if (write_a && enabled(address_a, LANES_A, j)
                && place(address_a, LANES_A, j) == place(address_b, LANES_B, i))
              stored = stored ^ (9'($urandom) & seen(address_a, DATA_WIDTH_A)
                                 & seen(address_b, DATA_WIDTH_B));
          bytes[place(address_b, LANES_B, i)] = stored;
        end
  end

  reg a_is_used = 0;

  always @(posedge CLKA)
    a_is_used <= 1;

  always @(posedge CLKB)
    if (a_is_used && !CLKA)
      $fatal(1, "DP16KD: the clocks of both ports must be one");

  assign {
    DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4,
    DOB3, DOB2, DOB1, DOB0,
    DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4,
    DOA3, DOA2, DOA1, DOA0} =
    DATA_WIDTH_B == 36 ? out_b : {out_b[17:0], out_a[17:0]};
endmodule
