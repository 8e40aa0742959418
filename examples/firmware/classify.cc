#include "classify.h"

#include <cmath>

#include "model.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/schema/schema_generated.h"

namespace firmware {
namespace {

#ifndef ARENA_SIZE
#define ARENA_SIZE attnpool::kArenaSize
#endif
alignas(16) uint8_t arena[ARENA_SIZE];
tflite::MicroInterpreter* interpreter = nullptr;

// Grey as in training: 0.299 red + 0.587 green + 0.114 blue, in 65536ths.
uint8_t Grey(const uint8_t* rgb) { return (19595u * rgb[0] + 38470u * rgb[1] + 7471u * rgb[2] + 32768u) >> 16; }

void Fill(int8_t* input, const uint8_t* rgb) {
  for (int i = 0; i < attnpool::kHeight * attnpool::kWidth; ++i, rgb += 3) {
    if constexpr (attnpool::kChannels == 1) {
      *input++ = attnpool::kPixels[0][Grey(rgb)];
    } else {
      for (int channel = 0; channel < 3; ++channel) *input++ = attnpool::kPixels[channel][rgb[channel]];
    }
  }
}

}  // namespace

bool Start() {
  static attnpool::OpResolver resolver;
  if (interpreter != nullptr || attnpool::RegisterOps(resolver) != kTfLiteOk) return interpreter != nullptr;
  static tflite::MicroInterpreter network(tflite::GetModel(attnpool::kModel), resolver, arena, sizeof(arena));
  if (network.AllocateTensors() != kTfLiteOk) return false;
  interpreter = &network;
  return true;
}

size_t ArenaUsed() { return interpreter == nullptr ? 0 : interpreter->arena_used_bytes(); }

std::optional<Answer> Classify(const uint8_t* rgb) {
  if (interpreter == nullptr) return std::nullopt;
  Fill(interpreter->input(0)->data.int8, rgb);
  if (interpreter->Invoke() != kTfLiteOk) return std::nullopt;
  const TfLiteTensor* output = interpreter->output(0);
  const int8_t* logits = output->data.int8;
  int best = 0;
  for (int i = 1; i < attnpool::kClasses; ++i) best = logits[i] > logits[best] ? i : best;
  float sum = 0;
  for (int i = 0; i < attnpool::kClasses; ++i) sum += std::exp(output->params.scale * (logits[i] - logits[best]));
  return Answer{attnpool::kClassNames[best], 1 / sum};
}

}  // namespace firmware
