// The tensors of a checkpoint -> packed weights.

#pragma once

#include "functions.h"
#include "interface.h"
#include "products.h"

namespace elmo::ELMO_ISA {

// The convolutions of one width as a table: for each character and each place in the window, what
// that character adds to every filter, (width, characters + 1, count).
struct Bank {
  int64_t width = 0, count = 0;  // count: filters, padded with zeros to a multiple of 16
  int64_t first = 0;             // the first filter among the features
  Buffer<float> table;
};

struct Linear {
  Matrix weight;
  Buffer<float> bias;  // (panels * 64,)
};

struct LstmLayer {
  Linear input;  // the bias holds the forget gate's 1
  Matrix recurrent, projection;
};

struct Formats {
  Format encoder, input, recurrent, projection;
};

inline Formats formats_of(int32_t form) {
  switch (form) {
    case kBf16:
      return {Format::kBf16, Format::kBf16, Format::kBf16, Format::kBf16};
    case kInt8:
      return {Format::kBf16, Format::kInt8, Format::kInt8, Format::kBf16};
    default:
      return {Format::kFp32, Format::kFp32, Format::kFp32, Format::kFp32};
  }
}

constexpr int64_t kHighwayColumns = kPanel / 2;  // of transform and of gate in each panel

struct Weights {
  int64_t P = 0, C = 0, L = 0;
  int64_t features = 0;  // F, padded so that every bank and the whole fill their vectors
  int64_t n_banks = 0, n_highway = 0, n_characters = 0, widest = 0;
  bool skip = false, tanh_activation = false;
  float cell_clip = 0, proj_clip = 0;
  Formats formats;
  Bank* banks = nullptr;
  Buffer<float> bank_bias;        // (features,)
  Buffer<int32_t> feature_index;  // (features,): the checkpoint's number of it, -1 for padding
  Linear* highways = nullptr;     // a panel: 32 columns of transform, the same of gate
  Linear projection;
  LstmLayer* layers[2] = {nullptr, nullptr};  // a panel: 16 cells' i, g, f, o

  Weights() = default;
  Weights(const Weights&) = delete;
  Weights& operator=(const Weights&) = delete;
  ~Weights() {
    delete[] banks;
    delete[] highways;
    for (LstmLayer* stack : layers) delete[] stack;
  }

  int64_t padded_P() const { return round_up(P, kLanes); }
  int64_t groups() const { return round_up(C, kLanes) / kLanes; }  // of sixteen cells
};

// An element of a tensor, which lies in a file wherever it happens to.
ELMO_INLINE float element(const float* tensor, int64_t index) {
  float x;
  std::memcpy(&x, reinterpret_cast<const char*>(tensor) + index * sizeof(float), sizeof x);
  return x;
}

// Hands out the tensors in their order, and checks their sizes.
class TensorReader {
 public:
  explicit TensorReader(const Tensors& tensors) : tensors_(tensors) {}

  // Null where the next tensor does not have this size.
  const float* next(int64_t size) {
    if (position_ >= tensors_.count || tensors_.sizes[position_] != size) wrong_ = true;
    return wrong_ ? nullptr : tensors_.data[position_++];
  }
  bool ok() const { return !wrong_; }
  bool finished() const { return position_ == tensors_.count; }
  int64_t position() const { return position_; }

 private:
  const Tensors& tensors_;
  int64_t position_ = 0;
  bool wrong_ = false;
};

// Fills `panel` of a matrix whose row k is `width` floats at data + k * stride; the panel's v-th
// sixteen columns begin at column first_of(v), and columns from limit_of(v) on are zeros.
template <class FirstOf, class LimitOf>
void pack_rows(Matrix& matrix, int64_t panel, const float* data, int64_t rows, int64_t stride,
               float* scratch, FirstOf first_of, LimitOf limit_of) {
  for (int64_t k = 0; k < matrix.depth; ++k)
    for (int64_t v = 0; v < kPanel / kLanes; ++v) {
      const int64_t first = first_of(v), count = limit_of(v) - first;
      const bool empty = k >= rows || count <= 0;
      store(scratch + k * kPanel + v * kLanes,
            empty ? all(0.0f) : load_some(data + k * stride + first, count));
    }
  matrix.pack(panel, scratch);
}

// One column of a panel from a row of a matrix that is stored transposed, (outputs, inputs).
// source: where each k comes from, -1 for a zero; null: k itself.
inline void gather_column(const float* row, int64_t inputs, const int32_t* source, int64_t depth,
                          float* scratch, int64_t column) {
  for (int64_t k = 0; k < depth; ++k) {
    const int64_t from = source ? source[k] : (k < inputs ? k : -1);
    scratch[k * kPanel + column] = row && from >= 0 ? element(row, from) : 0.0f;
  }
}

// (P, 4C) with the gates i, g, f, o one after the other -> panels of sixteen cells' four gates.
inline void pack_gates(Matrix& matrix, const Weights& w, const float* data, const Crew& crew,
                       float* scratch) {
  crew.each(matrix.panels, [&](int64_t group) {
    const int64_t cell = group * kLanes;
    pack_rows(
        matrix, group, data, w.P, 4 * w.C, scratch, [&](int64_t gate) { return gate * w.C + cell; },
        [&](int64_t gate) { return (gate + 1) * w.C; });
  });
}

inline void pack_gate_bias(Buffer<float>& bias, const Weights& w, const float* data) {
  for (int64_t group = 0; group < w.groups(); ++group)
    for (int64_t gate = 0; gate < 4; ++gate)
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        const int64_t cell = group * kLanes + lane;
        const float one = gate == 2 ? 1.0f : 0.0f;  // published files leave out the forget bias
        bias[group * kPanel + gate * kLanes + lane] =
            cell < w.C ? element(data, gate * w.C + cell) + one : 0;
      }
}

inline void pack_layer(LstmLayer& layer, const Weights& w, const float* const* tensors,
                       const Crew& crew, float* scratch) {
  pack_gates(layer.input.weight, w, tensors[0], crew, scratch);
  pack_gates(layer.recurrent, w, tensors[1], crew, scratch);
  crew.each(1, [&](int64_t) { pack_gate_bias(layer.input.bias, w, tensors[2]); });
  crew.each(layer.projection.panels, [&](int64_t panel) {
    pack_rows(
        layer.projection, panel, tensors[3], w.C, w.P, scratch,
        [&](int64_t v) { return panel * kPanel + v * kLanes; }, [&](int64_t) { return w.P; });
  });
}

// Transform and gate (F, F), stored (outputs, inputs), side by side in each panel.
inline void pack_highway(Linear& highway, const Weights& w, int64_t F, const float* const* tensors,
                         const Crew& crew, float* scratch) {
  crew.each(highway.weight.panels, [&](int64_t panel) {
    for (int64_t column = 0; column < kPanel; ++column) {
      const int64_t part = column / kHighwayColumns;  // 0 transform, 1 gate
      const int32_t output = w.feature_index[panel * kHighwayColumns + column % kHighwayColumns];
      const float* row = output < 0 ? nullptr : tensors[2 * part] + output * F;
      gather_column(row, F, w.feature_index.data(), highway.weight.depth, scratch, column);
      highway.bias[panel * kPanel + column] =
          output < 0 ? 0 : element(tensors[2 * part + 1], output);
    }
    highway.weight.pack(panel, scratch);
  });
}

inline void pack_projection(Linear& linear, const Weights& w, int64_t F, const float* weight,
                            const float* bias, const Crew& crew, float* scratch) {
  crew.each(linear.weight.panels, [&](int64_t panel) {
    for (int64_t column = 0; column < kPanel; ++column) {
      const int64_t output = panel * kPanel + column;
      const float* row = output < w.P ? weight + output * F : nullptr;
      gather_column(row, F, w.feature_index.data(), linear.weight.depth, scratch, column);
      linear.bias[output] = output < w.P ? element(bias, output) : 0;
    }
    linear.weight.pack(panel, scratch);
  });
}

// Convolution weights (count, d, width) and the embedding (characters, d) -> the bank's table.
inline void pack_bank(Bank& bank, const Weights& w, int64_t dim, int64_t filters,
                      const float* embedding, const float* weight, const Crew& crew) {
  const int64_t rows = w.n_characters + 1;
  crew.each(bank.width, [&](int64_t place) {
    float* table = bank.table.data() + place * rows * bank.count;
    std::memset(table, 0, rows * bank.count * sizeof(float));
    float* columns = crew.scratch;  // weights of this place, (d, count)
    std::memset(columns, 0, dim * bank.count * sizeof(float));
    for (int64_t filter = 0; filter < filters; ++filter)
      for (int64_t d = 0; d < dim; ++d)
        columns[d * bank.count + filter] = element(weight, (filter * dim + d) * bank.width + place);
    for (int64_t character = 1; character < rows; ++character)  // 0, no character, adds nothing
      for (int64_t filter = 0; filter < bank.count; filter += kLanes) {
        Floats sum = all(0.0f);
        for (int64_t d = 0; d < dim; ++d)
          sum = fma(all(element(embedding, (character - 1) * dim + d)),
                    load(columns + d * bank.count + filter), sum);
        store(table + character * bank.count + filter, sum);
      }
  });
}

}  // namespace elmo::ELMO_ISA
