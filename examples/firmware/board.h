// What a board gives: images, and a line of text out. host.cc is the computer on the desk; write one such file for yours.
#ifndef FIRMWARE_BOARD_H_
#define FIRMWARE_BOARD_H_

#include <cstdint>

namespace board {

// Clocks, camera, serial port.
void Start();

// Writes the next image, as Classify() takes it. False: there are no more, and the program ends.
bool Capture(uint8_t* rgb);

// Sends a line to the serial port.
void Print(const char* line);

}  // namespace board

#endif  // FIRMWARE_BOARD_H_
