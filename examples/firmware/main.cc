// Names what the camera sees, on the serial port.
#include <cstdio>

#include "board.h"
#include "classify.h"
#include "model.h"

namespace {

uint8_t image[attnpool::kHeight * attnpool::kWidth * 3];
char line[96];

}  // namespace

int main() {
  board::Start();
  if (!firmware::Start()) {
    board::Print("the arena is too small, see the log");
    return 1;
  }
  std::snprintf(line, sizeof(line), "arena: %u bytes", static_cast<unsigned>(firmware::ArenaUsed()));
  board::Print(line);
  while (board::Capture(image)) {
    const auto answer = firmware::Classify(image);
    if (!answer) {
      board::Print("the network did not run, see the log");
      return 1;
    }
    // In whole per cent: small C libraries print no floats.
    std::snprintf(line, sizeof(line), "%s %d%%", answer->name, static_cast<int>(100 * answer->probability + 0.5f));
    board::Print(line);
  }
  return 0;
}
