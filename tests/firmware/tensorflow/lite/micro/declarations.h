// What the example uses of TensorFlow Lite Micro, declared by us after its documented interface: names, arguments, results.
// Its headers are in no package; its compiled code is in the wheel tflite-micro, and the tests link to that. The names are
// in tflite::micro there, with the ones of tflite kept for applications, as here.
#ifndef TESTS_FIRMWARE_DECLARATIONS_H_
#define TESTS_FIRMWARE_DECLARATIONS_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tflite {

struct Model;
struct Operator;
enum BuiltinOperator : int32_t;

// Where the root of a flatbuffer is: its first four bytes say.
inline const Model* GetModel(const void* file) {
  uint32_t root;
  std::memcpy(&root, file, sizeof(root));
  return reinterpret_cast<const Model*>(static_cast<const char*>(file) + root);
}

namespace micro {

enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };
struct TfLiteContext;
struct TfLiteNode;
class BuiltinDataAllocator;

struct TfLiteTensor {
  struct {
    int type;
    void* params;
  } quantization;
  struct {
    float scale;
    int32_t zero_point;
  } params;
  union {
    int8_t* int8;
    float* f;
  } data;
  const void* dims;
  size_t bytes;
};

struct TFLMRegistration {
  void* (*init)(TfLiteContext*, const char*, size_t);
  void (*free)(TfLiteContext*, void*);
  TfLiteStatus (*prepare)(TfLiteContext*, TfLiteNode*);
  TfLiteStatus (*invoke)(TfLiteContext*, TfLiteNode*);
  void (*reset)(TfLiteContext*, void*);
  int32_t builtin_code;
  const char* custom_name;
};

using Parser = TfLiteStatus (*)(const Operator*, BuiltinDataAllocator*, void**);

class MicroOpResolver {
 public:
  virtual const TFLMRegistration* FindOp(BuiltinOperator) const = 0;
  virtual const TFLMRegistration* FindOp(const char*) const = 0;
  virtual Parser GetOpDataParser(BuiltinOperator) const = 0;
  virtual ~MicroOpResolver() = default;
};

// The number in the schema, the name of the method, of what registers it, and of what reads its options.
#define FOR_EACH_OPERATOR(DO)                               \
  DO(0, Add, ADD, Add)                                      \
  DO(1, AveragePool2D, AVERAGE_POOL_2D, Pool)               \
  DO(2, Concatenation, CONCATENATION, Concatenation)        \
  DO(3, Conv2D, CONV_2D, Conv2D)                            \
  DO(4, DepthwiseConv2D, DEPTHWISE_CONV_2D, DepthwiseConv2D)\
  DO(6, Dequantize, DEQUANTIZE, Dequantize)                 \
  DO(9, FullyConnected, FULLY_CONNECTED, FullyConnected)    \
  DO(14, Logistic, LOGISTIC, Logistic)                      \
  DO(17, MaxPool2D, MAX_POOL_2D, Pool)                      \
  DO(18, Mul, MUL, Mul)                                     \
  DO(22, Reshape, RESHAPE, Reshape)                         \
  DO(25, Softmax, SOFTMAX, Softmax)                         \
  DO(34, Pad, PAD, Pad)                                     \
  DO(39, Transpose, TRANSPOSE, Transpose)                   \
  DO(40, Mean, MEAN, Reducer)                               \
  DO(41, Sub, SUB, Sub)                                     \
  DO(42, Div, DIV, Div)                                     \
  DO(45, StridedSlice, STRIDED_SLICE, StridedSlice)         \
  DO(47, Exp, EXP, Exp)                                     \
  DO(55, Maximum, MAXIMUM, Maximum)                         \
  DO(74, Sum, SUM, Reducer)                                 \
  DO(114, Quantize, QUANTIZE, Quantize)

#define DECLARE(number, method, name, parser) \
  TFLMRegistration Register_##name();         \
  TfLiteStatus Parse##parser(const Operator*, BuiltinDataAllocator*, void**);
FOR_EACH_OPERATOR(DECLARE)
#undef DECLARE

template <unsigned int kCount>
class MicroMutableOpResolver : public MicroOpResolver {
 public:
#define DEFINE(number, method, name, parser) \
  TfLiteStatus Add##method() { return Add(number, Register_##name(), Parse##parser); }
  FOR_EACH_OPERATOR(DEFINE)
#undef DEFINE

  const TFLMRegistration* FindOp(BuiltinOperator code) const override {
    const int at = Find(code);
    return at < 0 ? nullptr : &registrations_[at];
  }
  const TFLMRegistration* FindOp(const char*) const override { return nullptr; }
  Parser GetOpDataParser(BuiltinOperator code) const override {
    const int at = Find(code);
    return at < 0 ? nullptr : parsers_[at];
  }

 private:
  int Find(int32_t code) const {
    for (unsigned int i = 0; i < count_; ++i) {
      if (registrations_[i].builtin_code == code) return static_cast<int>(i);
    }
    return -1;
  }
  TfLiteStatus Add(int32_t code, const TFLMRegistration& registration, Parser parser) {
    if (count_ == kCount || Find(code) >= 0) return kTfLiteError;
    registrations_[count_] = registration;
    registrations_[count_].builtin_code = code;
    parsers_[count_++] = parser;
    return kTfLiteOk;
  }

  TFLMRegistration registrations_[kCount] = {};
  Parser parsers_[kCount] = {};
  unsigned int count_ = 0;
};

class MicroMemoryPlanner;
class MicroResourceVariables;
class MicroProfilerInterface;
enum class MemoryPlannerType { kGreedy, kLinear };

class MicroAllocator {
 public:
  static MicroAllocator* Create(uint8_t* arena, size_t size, MemoryPlannerType planner);
  size_t used_bytes() const;
};

class MicroInterpreter {
 public:
  MicroInterpreter(const Model* model, const MicroOpResolver& resolver, uint8_t* arena, size_t size)
      : MicroInterpreter(model, resolver, MicroAllocator::Create(arena, size, MemoryPlannerType::kGreedy), size) {}
  ~MicroInterpreter();
  TfLiteStatus AllocateTensors();
  TfLiteStatus Invoke();
  TfLiteTensor* input(size_t index);
  TfLiteTensor* output(size_t index);
  size_t arena_used_bytes() const { return allocator_->used_bytes(); }

 private:
  MicroInterpreter(const Model*, const MicroOpResolver&, MicroAllocator*, MicroResourceVariables*,
                   MicroProfilerInterface*);
  MicroInterpreter(const Model* model, const MicroOpResolver& resolver, MicroAllocator* allocator, size_t)
      : MicroInterpreter(model, resolver, allocator, nullptr, nullptr) {
    allocator_ = allocator;
  }

  alignas(16) unsigned char its_own_[2048];  // more than it has
  MicroAllocator* allocator_;
};

}  // namespace micro

using micro::MicroInterpreter;
using micro::MicroMutableOpResolver;

}  // namespace tflite

using tflite::micro::kTfLiteError;
using tflite::micro::kTfLiteOk;
using tflite::micro::TfLiteStatus;
using tflite::micro::TfLiteTensor;

#endif  // TESTS_FIRMWARE_DECLARATIONS_H_
