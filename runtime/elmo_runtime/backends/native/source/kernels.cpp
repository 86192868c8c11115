// The kernels of one instruction set, as a table of functions.
//
// Everything here is in a namespace of that set. A function that two sets shared would be merged
// by the linker, and a processor could meet instructions that it does not have.

#include "kernels.h"

#include <cstdio>

#include "bilm.h"
#include "encoder.h"

namespace elmo {
namespace ELMO_ISA {
namespace {

struct Memory {
  EncoderMemory encoder;
  BilmMemory bilm;
  Buffer<float> scratch;  // of all threads
};

constexpr int64_t kScratchFloats = kScratchRows * kPanel;

// Runs body(crew) on every thread of the team.
template <class Body>
void run_together(Team& team, float* scratch, int64_t scratch_floats, Body body) {
  struct Context {
    Team& team;
    float* scratch;
    int64_t scratch_floats;
    Body& body;
  } context{team, scratch, scratch_floats, body};
  const auto work = [](void* pointer, int thread) {
    Context& c = *static_cast<Context*>(pointer);
    Team* shared = c.team.size() > 1 ? &c.team : nullptr;
    int32_t phase = shared ? shared->first_phase() : 0;
    c.body(Crew{shared, thread, c.scratch + thread * c.scratch_floats, &phase});
  };
  if (team.size() > 1) return team.run(work, &context);
  work(&context, 0);
}

void set_sizes(Weights& w, const Config& config, int32_t form) {
  w.P = config.projection_dim;
  w.C = config.lstm_dim;
  w.L = config.n_layers;
  w.skip = config.skip_connections;
  w.tanh_activation = config.tanh_activation;
  w.cell_clip = config.cell_clip;
  w.proj_clip = config.proj_clip;
  w.n_banks = config.n_banks;
  w.n_highway = config.n_highway;
  w.n_characters = config.n_characters;
  w.formats = formats_of(form);
  w.banks = new Bank[w.n_banks];
  w.highways = new Linear[w.n_highway];
  for (LstmLayer*& stack : w.layers) stack = new LstmLayer[w.L];
}

void shape_linear(Linear& linear, Format format, int64_t rows, int64_t columns) {
  linear.weight.shape(format, rows, columns);
  linear.bias.reserve(linear.weight.panels * kPanel);
}

// Room for everything, so that no thread has to allocate it. Returns F.
int64_t shape_weights(Weights& w, const Config& config) {
  int64_t F = 0;
  for (int64_t i = 0; i < w.n_banks; ++i) {
    Bank& bank = w.banks[i];
    bank.width = config.bank_widths[i];
    bank.count = round_up(config.bank_counts[i], kLanes);
    bank.first = w.features;
    if (i + 1 == w.n_banks)  // the last one fills up the features, so that every place has a value
      bank.count += round_up(w.features + bank.count, kHighwayColumns) - w.features - bank.count;
    bank.table.reserve(bank.width * (w.n_characters + 1) * bank.count);
    w.features += bank.count;
    w.widest = maximum(w.widest, bank.width);
    F += config.bank_counts[i];
  }
  w.bank_bias.reserve(w.features);
  w.feature_index.reserve(w.features);
  for (int64_t i = 0; i < w.n_highway; ++i)
    shape_linear(w.highways[i], w.formats.encoder, w.features, 2 * w.features);
  shape_linear(w.projection, w.formats.encoder, w.features, w.P);
  for (LstmLayer* stack : w.layers)
    for (int64_t depth = 0; depth < w.L; ++depth) {
      shape_linear(stack[depth].input, w.formats.input, w.P, w.groups() * kPanel);
      stack[depth].recurrent.shape(w.formats.recurrent, w.P, w.groups() * kPanel);
      stack[depth].projection.shape(w.formats.projection, w.C, w.P);
    }
  return F;
}

// The tensors of a config, in the order of the interface.
struct Found {
  Buffer<const float*> tensors;
  int64_t count = 0;
};

bool find_tensors(Found& found, const Weights& w, const Config& config, int64_t F,
                  const Tensors& tensors, char* message) {
  TensorReader reader(tensors);
  found.tensors.reserve(tensors.count + 1);
  const auto take = [&](int64_t size) {
    const float* data = reader.next(size);
    if (data) found.tensors[found.count++] = data;
  };
  take(w.n_characters * config.char_embedding_dim);
  for (int64_t i = 0; i < w.n_banks; ++i) {
    take(int64_t{config.bank_counts[i]} * config.char_embedding_dim * config.bank_widths[i]);
    take(config.bank_counts[i]);
  }
  for (int64_t i = 0; i < 2 * w.n_highway; ++i) {
    take(F * F);
    take(F);
  }
  take(w.P * F);
  take(w.P);
  const int64_t layer_sizes[] = {w.P * 4 * w.C, w.P * 4 * w.C, 4 * w.C, w.C * w.P};
  for (int64_t i = 0; i < 2 * w.L; ++i)
    for (const int64_t size : layer_sizes) take(size);
  if (reader.ok() && reader.finished()) return true;
  std::snprintf(message, kMessageSize, "tensor %lld of %lld does not fit the config",
                static_cast<long long>(reader.position()), static_cast<long long>(tensors.count));
  return false;
}

// Where the features of the checkpoint are among the padded ones, and their biases.
void place_features(Weights& w, const Config& config, const float* const* tensors) {
  for (int64_t f = 0; f < w.features; ++f) {
    w.feature_index[f] = -1;
    w.bank_bias[f] = 0;
  }
  int32_t number = 0;
  for (int64_t i = 0; i < w.n_banks; ++i)
    for (int64_t filter = 0; filter < config.bank_counts[i]; ++filter) {
      w.feature_index[w.banks[i].first + filter] = number++;
      w.bank_bias[w.banks[i].first + filter] = element(tensors[2 + 2 * i], filter);
    }
}

void pack_all(Weights& w, const Config& config, int64_t F, const float* const* tensors,
              const Crew& crew) {
  const int64_t dim = config.char_embedding_dim;
  const float* const* next = tensors + 1;
  for (int64_t i = 0; i < w.n_banks; ++i, next += 2)
    pack_bank(w.banks[i], w, dim, config.bank_counts[i], tensors[0], next[0], crew);
  for (int64_t i = 0; i < w.n_highway; ++i, next += 4)
    pack_highway(w.highways[i], w, F, next, crew, crew.scratch);
  pack_projection(w.projection, w, F, next[0], next[1], crew, crew.scratch);
  next += 2;
  for (LstmLayer* stack : w.layers)
    for (int64_t depth = 0; depth < w.L; ++depth, next += 4)
      pack_layer(stack[depth], w, next, crew, crew.scratch);
}

void free_weights(void* weights) { delete static_cast<Weights*>(weights); }

void* pack(const Config& config, const Tensors& tensors, int32_t form, Team& team, char* message) {
  Weights* w = new Weights;
  try {
    set_sizes(*w, config, form);
    const int64_t F = shape_weights(*w, config);
    Found found;
    if (find_tensors(found, *w, config, F, tensors, message)) {
      place_features(*w, config, found.tensors.data());
      const int64_t depth = round_up(maximum(w->features, maximum(w->P, w->C)), kLanes);
      const int64_t floats = maximum(depth * kPanel, config.char_embedding_dim * w->features);
      Buffer<float> scratch;  // a panel in FP32, or the filters of one place
      scratch.reserve(team.size() * floats);
      run_together(team, scratch.data(), depth * kPanel,
                   [&](const Crew& crew) { pack_all(*w, config, F, found.tensors.data(), crew); });
      return w;
    }
  } catch (...) {
    free_weights(w);
    throw;
  }
  free_weights(w);
  return nullptr;
}

void* make_memory() { return new Memory; }
void free_memory(void* memory) { delete static_cast<Memory*>(memory); }

void encode_words(const void* weights, void* memory, const int32_t* char_ids, int64_t words,
                  int64_t characters, float* vectors, Team& team) {
  const Weights& w = *static_cast<const Weights*>(weights);
  Memory& m = *static_cast<Memory*>(memory);
  m.scratch.reserve(team.size() * kScratchFloats);
  for (int64_t first = 0; first < words; first += kWordsAtOnce) {
    const int32_t* ids = char_ids + first * characters;
    const int64_t count = minimum(kWordsAtOnce, words - first);
    prepare_words(w, m.encoder, ids, count, characters);
    run_together(team, m.scratch.data(), kScratchFloats, [&](const Crew& crew) {
      encode(w, m.encoder, ids, count, characters, vectors + first * w.P, crew);
    });
  }
}

void run_bilm(const void* weights, void* memory, const Batch& batch, Team& team) {
  const Weights& w = *static_cast<const Weights*>(weights);
  Memory& m = *static_cast<Memory*>(memory);
  Schedule& schedule = m.bilm.schedule;
  make_schedule(schedule, batch, w.C);
  const bool together = has_small_steps(w, schedule) && team.size() > 1;
  m.bilm.y.reserve(w.L * 2 * schedule.rows * w.padded_P());
  for (int direction = 0; direction <= int(together); ++direction)
    m.bilm.directions[direction].reserve(w, schedule);
  m.scratch.reserve(team.size() * kScratchFloats);
  run_together(team, m.scratch.data(), kScratchFloats,
               [&](const Crew& crew) { run_batch(w, m.bilm, batch, crew, together); });
}

}  // namespace
}  // namespace ELMO_ISA

#define ELMO_TEXT_OF(name) #name
#define ELMO_TEXT(name) ELMO_TEXT_OF(name)

extern const Kernels ELMO_KERNELS;
const Kernels ELMO_KERNELS = {
    ELMO_TEXT(ELMO_ISA),   ELMO_ISA::pack,         ELMO_ISA::free_weights, ELMO_ISA::make_memory,
    ELMO_ISA::free_memory, ELMO_ISA::encode_words, ELMO_ISA::run_bilm,
};

}  // namespace elmo
