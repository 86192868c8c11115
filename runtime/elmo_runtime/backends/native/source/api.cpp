// The C interface: chooses the instruction set, checks inputs and shares teams between callers.

#include <immintrin.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "kernels.h"

namespace elmo {
namespace {

constexpr const char* kChoice = "ELMO_DEPLOY_NATIVE_ISA";  // names one of the kernels

bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

bool has_avx512_vnni() {
  return has_avx512() && __builtin_cpu_supports("avx512vnni") &&
         __builtin_cpu_supports("avx512bf16");
}

struct Choice {
  const Kernels& kernels;
  bool (*supported)();
};

const Choice kChoices[] = {// the best first
                           {kAvx512Vnni, has_avx512_vnni},
                           {kAvx512, has_avx512},
                           {kAvx2, has_avx2}};

const Kernels* choose_kernels() {
  const char* wanted = std::getenv(kChoice);
  const bool any = !wanted || !*wanted;
  for (const Choice& choice : kChoices)
    if ((any || !std::strcmp(wanted, choice.kernels.name)) && choice.supported())
      return &choice.kernels;
  return nullptr;
}

// Denormals count as zero in a call, in every thread: vdpbf16ps knows no others.
class FlushDenormals {
 public:
  FlushDenormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | _MM_FLUSH_ZERO_ON | 0x0040); }
  ~FlushDenormals() { _mm_setcsr(before_); }

 private:
  unsigned before_;
};

__attribute__((format(printf, 2, 3))) int32_t refuse(char* message, const char* format, ...) {
  va_list values;
  va_start(values, format);
  std::vsnprintf(message, kMessageSize, format, values);
  va_end(values);
  return kBadInput;
}

}  // namespace

// Calls may overlap. The first has the team; one that comes meanwhile computes alone, so that there
// are never more busy threads than calls and cores together. No locks: a fork could copy a held
// one.
struct Model {
  static constexpr int kKeptMemories = 8;

  const Kernels* kernels = nullptr;
  void* weights = nullptr;
  Config config{};  // without its arrays
  int32_t widest_bank = 1;
  int threads = 1;
  bool spinning = true;
  Team alone{1, false};
  std::atomic<Team*> team{nullptr};  // null: a call has it
  std::atomic<pid_t> owner{getpid()};
  std::atomic<void*> memories[kKeptMemories] = {};

  ~Model() {
    Team* last = team.load();
    if (last && owner.load() != getpid()) last->abandon();
    delete last;
    for (auto& memory : memories)
      if (void* kept = memory.load()) kernels->free_memory(kept);
    if (weights) kernels->free_weights(weights);
  }

  // A fork copies no threads: the child starts a team of its own.
  void start_team_after_fork() {
    const pid_t here = getpid();
    pid_t before = owner.load();
    if (before == here || !owner.compare_exchange_strong(before, here)) return;
    Team* lost = team.exchange(nullptr);
    if (lost) lost->abandon();
    delete lost;
    team.store(new Team(threads, spinning));
  }

  void* take_memory() {
    for (auto& memory : memories)
      if (void* kept = memory.exchange(nullptr)) return kept;
    return kernels->make_memory();
  }

  void return_memory(void* used) {
    for (auto& memory : memories) {
      void* nothing = nullptr;
      if (memory.compare_exchange_strong(nothing, used)) return;
    }
    kernels->free_memory(used);
  }
};

namespace {

// What one call computes with.
class Call {
 public:
  explicit Call(Model& model) : model_(model) {
    model_.start_team_after_fork();
    memory_ = model_.take_memory();
    taken_ = model_.team.exchange(nullptr);
  }
  ~Call() {
    if (taken_) model_.team.store(taken_);
    model_.return_memory(memory_);
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  Team& team() { return taken_ ? *taken_ : model_.alone; }
  void* memory() { return memory_; }

 private:
  FlushDenormals flush_denormals_;
  Model& model_;
  void* memory_ = nullptr;
  Team* taken_ = nullptr;
};

constexpr int32_t kMost = 1 << 24;  // of any size: far beyond every model, and no product overflows

int32_t check_config(const Config& c, int32_t form, char* message) {
  const int32_t sizes[] = {c.projection_dim, c.lstm_dim,           c.n_layers,
                           c.n_characters,   c.char_embedding_dim, c.n_banks};
  for (const int32_t size : sizes)
    if (size < 1 || size > kMost) return refuse(message, "a size of the config is %d", size);
  if (c.n_highway < 0 || c.n_highway > kMost)
    return refuse(message, "n_highway is %d", c.n_highway);
  for (int32_t i = 0; i < c.n_banks; ++i)
    if (c.bank_widths[i] < 1 || c.bank_widths[i] > kMost || c.bank_counts[i] < 1 ||
        c.bank_counts[i] > kMost)
      return refuse(message, "filter [%d, %d] has no size", c.bank_widths[i], c.bank_counts[i]);
  if (!(c.cell_clip > 0) || !(c.proj_clip > 0)) return refuse(message, "a clip is not positive");
  if (form < kFp32 || form > kInt8) return refuse(message, "form %d does not exist", form);
  // A sum of 8-bit products must stay below 2^31.
  if (form == kInt8 && c.projection_dim > 65536) return refuse(message, "int8 sums would overflow");
  return kOk;
}

int32_t check_char_ids(const Model& model, const int32_t* ids, int64_t words, int64_t characters,
                       char* message) {
  if (words < 1 || characters < model.widest_bank)
    return refuse(
        message, "char_ids has %lld words of %lld characters, at least 1 of %d are needed",
        static_cast<long long>(words), static_cast<long long>(characters), model.widest_bank);
  for (int64_t i = 0; i < words * characters; ++i)
    if (ids[i] < 0 || ids[i] > model.config.n_characters)
      return refuse(message, "character id %d is not in 0..%d", ids[i], model.config.n_characters);
  return kOk;
}

int32_t check_batch(const Batch& batch, char* message) {
  if (batch.batch < 1 || batch.n_words < 1 || batch.marked_length < 2 || batch.n_mixes < 0)
    return refuse(message, "a batch needs a sentence, a word and two places");
  for (int64_t b = 0; b < batch.batch; ++b) {
    const int64_t places = int64_t{batch.lengths[b]} + 2;
    if (places < 2 || places > batch.marked_length)
      return refuse(message, "sentence %lld has length %d in a batch of length %lld",
                    static_cast<long long>(b), batch.lengths[b],
                    static_cast<long long>(batch.marked_length - 2));
    for (int64_t t = 0; t < places; ++t) {
      const int64_t word = batch.word_index[b * batch.marked_length + t];
      if (word < 0 || word >= batch.n_words)
        return refuse(message, "sentence %lld has word %lld of %lld", static_cast<long long>(b),
                      static_cast<long long>(word), static_cast<long long>(batch.n_words));
    }
  }
  return kOk;
}

// Runs body() and turns what it throws into a status.
template <class Body>
int32_t guarded(char* message, Body body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    refuse(message, "no memory is left");
    return kNoMemory;
  }
}

int32_t open_model(const Config& config, const Tensors& tensors, int32_t form, int32_t threads,
                   int32_t spinning, Model** model, char* message) {
  const Kernels* kernels = choose_kernels();
  if (!kernels) {
    refuse(message, "this processor has no AVX2 with FMA, or lacks what %s asks for", kChoice);
    return kUnsupported;
  }
  if (const int32_t status = check_config(config, form, message)) return status;
  auto opened = std::make_unique<Model>();
  opened->kernels = kernels;
  opened->config = config;
  for (int32_t i = 0; i < config.n_banks; ++i)
    opened->widest_bank = std::max(opened->widest_bank, config.bank_widths[i]);
  opened->threads = std::max(threads, 1);
  opened->spinning = spinning;
  Team* team = new Team(opened->threads, opened->spinning);
  opened->team.store(team);
  FlushDenormals flush_denormals;
  opened->weights = kernels->pack(config, tensors, form, *team, message);
  if (!opened->weights) return kBadInput;
  *model = opened.release();
  return kOk;
}

}  // namespace
}  // namespace elmo

using namespace elmo;

ELMO_API int32_t elmo_native_interface_version() { return kInterfaceVersion; }

ELMO_API const char* elmo_native_instruction_set() {
  const Kernels* kernels = choose_kernels();
  return kernels ? kernels->name : nullptr;
}

ELMO_API int32_t elmo_native_open(const Config* config, const Tensors* tensors, int32_t form,
                                  int32_t threads, int32_t spinning, Model** model, char* message) {
  return guarded(message, [&] {
    return open_model(*config, *tensors, form, threads, spinning, model, message);
  });
}

ELMO_API int32_t elmo_native_encode(Model* model, const int32_t* char_ids, int64_t words,
                                    int64_t characters, float* word_vectors, char* message) {
  if (const int32_t status = check_char_ids(*model, char_ids, words, characters, message))
    return status;
  return guarded(message, [&] {
    Call call(*model);
    model->kernels->encode(model->weights, call.memory(), char_ids, words, characters, word_vectors,
                           call.team());
    return kOk;
  });
}

ELMO_API int32_t elmo_native_run(Model* model, const Batch* batch, char* message) {
  if (const int32_t status = check_batch(*batch, message)) return status;
  return guarded(message, [&] {
    Call call(*model);
    model->kernels->run(model->weights, call.memory(), *batch, call.team());
    return kOk;
  });
}

ELMO_API void elmo_native_close(Model* model) { delete model; }
