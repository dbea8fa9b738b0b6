// SPDX-License-Identifier: Apache-2.0
//
// The main program of a simulated board: the design between two ends of its serial line.
//
//   board CLOCKS_PER_BIT
//
// Standard input is what happens on the board's `rx`, as symbols of two bytes, a kind and a value:
//   0 a byte; 1 a byte whose stop bit is low; 2 the line low for `value` byte times; 3 the line low
//   for one clock; 4 the line high for `value` byte times; 5 a reset of `value` clocks.
// Standard output are the bytes of `tx`; one whose stop bit is low is reported on standard error.
// It ends when standard input does. While nothing happens on the line it sleeps, and its clock
// runs slowly.

#include <poll.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>

#include "Vboard.h"
#include "verilated.h"

double sc_time_stamp() { return 0; }

namespace {

constexpr int BYTE_BITS = 10;           // a start bit, eight of data, a stop bit
constexpr int CYCLES_BETWEEN_LOOKS = 64;
constexpr int CYCLES_AWAKE = 20000;     // after the last change of the line
constexpr int SLEEP_MS = 10;

enum Kind { BYTE = 0, BAD_STOP = 1, BREAK = 2, GLITCH = 3, IDLE = 4, RESET = 5 };

/// What drives `rx` and `rst`: levels with lengths in clocks.
class Source {
public:
    explicit Source(int clocks_per_bit) : clocks_per_bit_(clocks_per_bit) {}

    /// Takes what standard input has; false at its end. Waits up to `wait_ms` for something.
    bool read(int wait_ms) {
        pollfd ready{STDIN_FILENO, POLLIN, 0};
        while (poll(&ready, 1, wait_ms) > 0) {
            uint8_t buffer[512];
            const ssize_t count = ::read(STDIN_FILENO, buffer, sizeof buffer);
            if (count <= 0) return false;
            for (ssize_t i = 0; i < count; ++i) take(buffer[i]);
            wait_ms = 0;
        }
        return true;
    }

    bool idle() const { return levels_.empty(); }

    /// Drives the design for one clock.
    void drive(Vboard& design) {
        design.rx = 1;
        design.rst = 0;
        if (levels_.empty()) return;
        Level& level = levels_.front();
        design.rx = level.high;
        design.rst = level.reset;
        if (--level.clocks == 0) levels_.pop_front();
    }

private:
    struct Level {
        bool high;
        bool reset;
        int clocks;
    };

    void push(bool high, int clocks, bool reset = false) {
        if (clocks > 0) levels_.push_back({high, reset, clocks});
    }

    void take(uint8_t byte) {
        if (!have_kind_) {
            kind_ = byte;
            have_kind_ = true;
            return;
        }
        have_kind_ = false;
        switch (kind_) {
        case BYTE:
        case BAD_STOP:
            push(false, clocks_per_bit_);
            for (int bit = 0; bit < 8; ++bit) push(byte >> bit & 1, clocks_per_bit_);
            push(kind_ == BYTE, clocks_per_bit_);
            if (kind_ == BAD_STOP) push(true, clocks_per_bit_);
            break;
        case BREAK:
            push(false, byte * BYTE_BITS * clocks_per_bit_);
            push(true, 2 * clocks_per_bit_);
            break;
        case GLITCH:
            push(false, 1);
            push(true, 2 * clocks_per_bit_);
            break;
        case IDLE:
            push(true, byte * BYTE_BITS * clocks_per_bit_);
            break;
        case RESET:
            push(true, byte, true);
            break;
        default:
            std::fprintf(stderr, "board: the kind of a symbol must be 0 to 5, not %d\n", kind_);
            std::exit(1);
        }
    }

    int clocks_per_bit_;
    bool have_kind_ = false;
    uint8_t kind_ = 0;
    std::deque<Level> levels_;
};

/// Takes the bytes from `tx`.
class Sink {
public:
    explicit Sink(int clocks_per_bit) : clocks_per_bit_(clocks_per_bit) {}

    bool idle() const { return clock_ < 0; }

    void sample(bool high) {
        if (clock_ < 0) {
            if (high) return;
            clock_ = 0;
            byte_ = 0;
        }
        const int bit = clock_ / clocks_per_bit_;
        if (clock_ % clocks_per_bit_ == clocks_per_bit_ / 2) {
            if (bit >= 1 && bit <= 8) byte_ |= high << (bit - 1);
            if (bit == 9) {
                finish(high);
                return;
            }
        }
        ++clock_;
    }

private:
    void finish(bool stop) {
        clock_ = -1;
        if (!stop)
            std::fprintf(stderr, "board: a byte on tx must have a high stop bit\n");
        else if (write(STDOUT_FILENO, &byte_, 1) != 1)
            std::exit(1);
    }

    int clocks_per_bit_;
    int clock_ = -1;
    uint8_t byte_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2 || std::atoi(argv[1]) < 2) {
        std::fprintf(stderr, "board: the argument must be clocks per bit, at least 2\n");
        return 2;
    }
    const int clocks_per_bit = std::atoi(argv[1]);
    VerilatedContext context;
    Vboard design{&context};
    Source source(clocks_per_bit);
    Sink sink(clocks_per_bit);

    design.rx = 1;
    design.rst = 1;
    for (int clock = 0; clock < 8; ++clock) {
        design.clk = 0;
        design.eval();
        design.clk = 1;
        design.eval();
    }
    int awake = CYCLES_AWAKE;
    int until_look = 0;
    while (true) {
        if (until_look-- == 0) {
            until_look = CYCLES_BETWEEN_LOOKS;
            if (!source.read(awake == 0 ? SLEEP_MS : 0)) return 0;
        }
        if (!source.idle() || !sink.idle()) awake = CYCLES_AWAKE;
        else if (awake > 0) --awake;
        source.drive(design);
        design.clk = 0;
        design.eval();
        design.clk = 1;
        design.eval();
        sink.sample(design.tx);
    }
}
