// An image in, the likeliest class out: the network of model.h in TensorFlow Lite Micro. No heap, no exceptions.
#ifndef FIRMWARE_CLASSIFY_H_
#define FIRMWARE_CLASSIFY_H_

#include <cstddef>
#include <cstdint>
#include <optional>

namespace firmware {

struct Answer {
  const char* name;
  float probability;  // 0..1
};

// Plans the arena, once. False where it is too small: TensorFlow Lite Micro has logged what it lacks.
bool Start();

// Bytes of the arena that the network takes on this machine, after Start().
size_t ArenaUsed();

// The class of an image of model.h's kHeight rows and kWidth columns, three bytes a pixel: red, green, blue.
// Nothing where the network could not run.
std::optional<Answer> Classify(const uint8_t* rgb);

}  // namespace firmware

#endif  // FIRMWARE_CLASSIFY_H_
