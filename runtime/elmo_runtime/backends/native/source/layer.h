// One direction of one layer: an LSTM with projection and two clips, over packed rows.
//
//   z = x Wx + h Wh + b                                 gates i, g, f, o
//   c = clip(sigmoid(f) c + sigmoid(i) tanh(g))
//   h = clip((sigmoid(o) tanh(c)) Wp)                   also the output, plus x where it is skipped
//   to

#pragma once

#include "schedule.h"
#include "weights.h"

namespace elmo::ELMO_ISA {

// What a direction needs while it runs; none of it outlives the layer but h and c.
struct LayerMemory {
  Buffer<float> products;         // (groups, inputs of a block, 64): x Wx + b
  Buffer<float> c;                // (groups, batch, 16)
  Buffer<float> h;                // (batch, h_stride): in FP32
  Rows inputs, recurrent, shown;  // x, h and sigmoid(o) tanh(c), as the products take them
  int64_t h_stride = 0;

  void reserve(const Weights& w, const Schedule& s) {
    int64_t most = s.upper.most_inputs;
    for (const Plan& plan : s.lowest) most = maximum(most, plan.most_inputs);
    products.reserve(w.groups() * most * kPanel);
    c.reserve(w.groups() * s.batch * kLanes);
    h_stride = w.padded_P() + kLanes;  // no multiple of 4 KB
    h.reserve(s.batch * h_stride);
    inputs.shape(w.formats.input, most, w.P);
    recurrent.shape(w.formats.recurrent, s.batch, w.P);
    shown.shape(w.formats.projection, s.batch, w.C);
  }
};

// Where a layer starts, and where it may leave its last state; row b is sentence b.
struct LayerState {
  const float *h, *c;  // (P,) and (C,) of sentence 0
  int64_t h_stride, c_stride;
  float *final_h, *final_c;  // (batch, P), (batch, C); null: not asked for
};

struct LayerRun {
  const Weights& w;
  const LstmLayer& layer;
  const Schedule& s;
  const Plan& plan;
  LayerMemory& memory;
  const float* x;  // (inputs, x_stride)
  int64_t x_stride;
  float* y;         // (packed rows, padded P)
  bool adds_input;  // x of the same packed row is added to the output
  LayerState state;
  const Crew& crew;

  void operator()() const {
    begin();
    for (int64_t i = 0; i < plan.n_blocks; ++i) {
      const Block& block = plan.blocks[i];
      multiply_inputs(block);
      for (int64_t t = block.first_step; t < block.last_step; ++t) {
        update_cells(block, t);
        project(t);
        if (memory.recurrent.format == Format::kInt8) quantize_h(s.count(t));
      }
    }
    if (state.final_h || state.final_c) finish();
  }

 private:
  static constexpr int64_t kRowsOfTask = 8;

  void begin() const {
    crew.ranges(s.batch, kRowsOfTask, [&](int64_t first, int64_t last) {
      for (int64_t rank = first; rank < last; ++rank) {
        const int64_t b = s.sentence[rank];
        float* h = memory.h.data() + rank * memory.h_stride;
        std::memcpy(h, state.h + b * state.h_stride, w.P * sizeof(float));
        memory.recurrent.write(rank, h, w.P);
        for (int64_t group = 0; group < w.groups(); ++group)
          store(cells(group, rank),
                load_some(state.c + b * state.c_stride + group * kLanes, w.C - group * kLanes));
      }
    });
  }

  // x Wx + b of the distinct inputs of a block.
  void multiply_inputs(const Block& block) const {
    const int32_t* numbers = plan.inputs.data() + block.first_input;
    crew.ranges(block.n_inputs, kRowsOfTask, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) memory.inputs.write(i, x + numbers[i] * x_stride, w.P);
    });
    product(layer.input.weight, memory.inputs, block.n_inputs, crew,
            [&](int64_t i, int64_t group, const float* sums) {
              float* to = memory.products.data() + (group * block.n_inputs + i) * kPanel;
              const float* bias = layer.input.bias.data() + group * kPanel;
              for (int64_t v = 0; v < kPanel; v += kLanes)
                store(to + v, load(sums + v) + load(bias + v));
            });
  }

  // The cells of a step, sixteen to a task. Bound: reading Wh, once a step, where there are few
  // rows; else the products.
  void update_cells(const Block& block, int64_t t) const {
    const int64_t n = s.count(t);
    crew.each(w.groups(), [&](int64_t task) {
      const int64_t group = there_and_back(t, task, w.groups());
      each_chunk(n, [&](int64_t first, int64_t last) {
        panel_product(layer.recurrent, group, memory.recurrent, first, last - first, crew.scratch);
        for (int64_t rank = first; rank < last; ++rank) {
          const int64_t slot = plan.slots[s.starts[t] + rank];
          update_sixteen(crew.scratch + (rank - first) * kPanel,
                         memory.products.data() + (group * block.n_inputs + slot) * kPanel, group,
                         rank);
        }
      });
    });
  }

  void update_sixteen(const float* recurrent, const float* input, int64_t group,
                      int64_t rank) const {
    const auto z = [&](int64_t gate) {
      return load(recurrent + gate * kLanes) + load(input + gate * kLanes);
    };
    const Floats written = sigmoid_times_tanh(z(0), z(1));
    const Floats c = clip(fma(sigmoid(z(2)), load(cells(group, rank)), written), w.cell_clip);
    store(cells(group, rank), c);
    memory.shown.store_lanes(rank, group * kLanes, sigmoid_times_tanh(z(3), c));
  }

  // 64 places of h to a task.
  void project(int64_t t) const {
    const int64_t n = s.count(t), panels = layer.projection.panels;
    crew.each(panels, [&](int64_t task) {
      const int64_t panel = there_and_back(t, task, panels);
      each_chunk(n, [&](int64_t first, int64_t last) {
        panel_product(layer.projection, panel, memory.shown, first, last - first, crew.scratch);
        for (int64_t rank = first; rank < last; ++rank)
          for (int64_t v = 0; v < kPanel && panel * kPanel + v < w.padded_P(); v += kLanes)
            store_h(t, rank, panel * kPanel + v,
                    clip(load(crew.scratch + (rank - first) * kPanel + v), w.proj_clip));
      });
    });
  }

  void store_h(int64_t t, int64_t rank, int64_t place, Floats h) const {
    store(memory.h.data() + rank * memory.h_stride + place, h);
    if (memory.recurrent.format != Format::kInt8) memory.recurrent.store_lanes(rank, place, h);
    const int64_t row = s.starts[t] + rank;
    if (adds_input) h = h + load(x + row * x_stride + place);
    store(y + row * w.padded_P() + place, h);
  }

  void quantize_h(int64_t n) const {
    crew.ranges(n, kRowsOfTask, [&](int64_t first, int64_t last) {
      for (int64_t rank = first; rank < last; ++rank)
        memory.recurrent.write(rank, memory.h.data() + rank * memory.h_stride, w.P);
    });
  }

  void finish() const {
    crew.ranges(s.batch, kRowsOfTask, [&](int64_t first, int64_t last) {
      for (int64_t b = first; b < last; ++b) {
        const int64_t rank = s.rank[b];
        const float* h = memory.h.data() + rank * memory.h_stride;
        if (state.final_h) std::memcpy(state.final_h + b * w.P, h, w.P * sizeof(float));
        for (int64_t cell = 0; state.final_c && cell < w.C; cell += kLanes)
          store_some(state.final_c + b * w.C + cell, load(cells(cell / kLanes, rank)), w.C - cell);
      }
    });
  }

  float* cells(int64_t group, int64_t rank) const {
    return memory.c.data() + (group * s.batch + rank) * kLanes;
  }

  // Every other step goes backwards, so that the weights read last, which are still in the cache,
  // are read first.
  static int64_t there_and_back(int64_t t, int64_t task, int64_t count) {
    return t % 2 ? count - 1 - task : task;
  }

  template <class Body>
  static void each_chunk(int64_t n, Body body) {
    for (int64_t first = 0; first < n; first += kScratchRows)
      body(first, minimum(first + kScratchRows, n));
  }
};

}  // namespace elmo::ELMO_ISA
