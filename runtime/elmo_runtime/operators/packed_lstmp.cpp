// ONNX Runtime operators: one layer of a bidirectional LSTM with projection over packed rows.
//
// The stock form of the same node is a function in the graph, which ONNX Runtime takes where this
// library is not registered (export/elmo_export/recurrence.py). Inputs, for directions 0 and 1:
//   products (words, 4C) x 2   x Wx + b of each distinct input, gates in the order i, g, f, o
//   rows     (N,) x 2          which of them each packed row is
//   counts   (M,)              rows of each step, falling
//   h (B, P) x 2, c (B, C) x 2 states before the first step, in sorted order
//   recurrent x 2, projection x 2, as panels; of int8 also the scales (columns,) x 2
// Outputs: y (N, P) x 2, and the cells c (B, C) x 2 after each sentence's last step.

#include "onnxruntime_abi.h"
#include "products.h"

#include <cmath>
#include <vector>

namespace lstmp {
namespace {

// exp(x) - 1 without the cancellation near 0. NaN stays NaN.
__m256 expm1(__m256 x) {
  x = _mm256_max_ps(_mm256_set1_ps(-87), _mm256_min_ps(_mm256_set1_ps(87), x));
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  // ln 2 in two parts, the first with so few bits that n times it is exact.
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
  __m256 q = _mm256_set1_ps(1.0f / 5040);
  for (const float term : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f})
    q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(term));
  const __m256 p = _mm256_fmadd_ps(_mm256_mul_ps(r, r), q, r);
  const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  const __m256 power = _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
  return _mm256_fmadd_ps(power, p, _mm256_sub_ps(power, _mm256_set1_ps(1)));
}

__m256 sigmoid(__m256 x) {
  const __m256 e = expm1(_mm256_sub_ps(_mm256_setzero_ps(), x));
  return _mm256_div_ps(_mm256_set1_ps(1), _mm256_add_ps(e, _mm256_set1_ps(2)));
}

__m256 tanh(__m256 x) {
  const __m256 e = expm1(_mm256_add_ps(x, x));
  return _mm256_div_ps(e, _mm256_add_ps(e, _mm256_set1_ps(2)));
}

__m256 clip(__m256 x, float limit) {
  return _mm256_max_ps(_mm256_set1_ps(-limit), _mm256_min_ps(_mm256_set1_ps(limit), x));
}

struct Clips {
  float cell, projection;  // infinite: none
};

// One direction of a layer. Its state shrinks with the number of rows of a step.
template <class Recurrent, class Projection>
struct Direction {
  const float* products;
  const int64_t* rows;
  Matrix<Recurrent> recurrent;    // (P, 4C)
  Matrix<Projection> projection;  // (C, P)
  float* y;                       // (N, P)
  float* c;                       // (B, C)
  std::vector<typename Recurrent::Activation> h;       // (B, P)
  std::vector<typename Projection::Activation> shown;  // (B, C): sigmoid(o) tanh(c)

  int64_t h_size() const { return recurrent.depth; }
  int64_t c_size() const { return projection.depth; }

  void begin(const float* h0, const float* c0, int64_t batch) {
    h.resize(batch * h_size());
    shown.resize(batch * c_size());
    std::copy(c0, c0 + batch * c_size(), c);
    for (int64_t i = 0; i < batch * h_size(); i += 8)
      recurrent.store(&h[i], _mm256_loadu_ps(h0 + i));
  }

  // Sixteen cells of the step whose rows begin at `start`.
  void update_cells(int64_t start, int64_t count, int64_t group, const Clips& clips) {
    for_blocks<Recurrent::kRows>(count, [&](int64_t row, int64_t rows_of_block) {
      alignas(32) float gates[4][kMostRows][kPanel];
      multiply_rows<Recurrent, 4>(recurrent, &h[row * h_size()], rows_of_block, group,
                                  c_size() / kPanel, gates);
      for (int64_t r = 0; r < rows_of_block; ++r) {
        const int64_t cell = group * kPanel;
        const float* product = products + rows[start + row + r] * 4 * c_size() + cell;
        for (int v = 0; v < kPanel; v += 8)
          update_eight(product + v, (row + r) * c_size() + cell + v, clips,
                       [&](int gate) { return _mm256_load_ps(&gates[gate][r][v]); });
      }
    });
  }

  // Sixteen places of h.
  void project(int64_t start, int64_t count, int64_t panel, const Clips& clips) {
    for_blocks<Projection::kRows>(count, [&](int64_t row, int64_t rows_of_block) {
      alignas(32) float sums[1][kMostRows][kPanel];
      multiply_rows<Projection, 1>(projection, &shown[row * c_size()], rows_of_block, panel, 0,
                                   sums);
      for (int64_t r = 0; r < rows_of_block; ++r)
        for (int v = 0; v < kPanel; v += 8) {
          const int64_t place = panel * kPanel + v;
          const __m256 x = clip(_mm256_load_ps(&sums[0][r][v]), clips.projection);
          _mm256_storeu_ps(y + (start + row + r) * h_size() + place, x);
          recurrent.store(&h[(row + r) * h_size() + place], x);
        }
    });
  }

 private:
  template <class Gate>
  void update_eight(const float* product, int64_t place, const Clips& clips, Gate gate) {
    const auto z = [&](int n) {
      return _mm256_add_ps(gate(n), _mm256_loadu_ps(product + n * c_size()));
    };
    const __m256 written = _mm256_mul_ps(sigmoid(z(0)), tanh(z(1)));
    const __m256 before = _mm256_loadu_ps(c + place);
    const __m256 after = clip(_mm256_fmadd_ps(sigmoid(z(2)), before, written), clips.cell);
    _mm256_storeu_ps(c + place, after);
    projection.store(&shown[place], _mm256_mul_ps(sigmoid(z(3)), tanh(after)));
  }

  // Rows in blocks of even sizes.
  template <int kMost, class Body>
  static void for_blocks(int64_t count, Body body) {
    const int64_t blocks = (count + kMost - 1) / kMost;
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t first = count * block / blocks;
      body(first, count * (block + 1) / blocks - first);
    }
  }
};

// Both directions of a layer in turn, each phase of a step spread over the session's threads.
template <class Recurrent, class Projection>
class Kernel {
 public:
  Kernel(const ort::Api& api, const ort::KernelInfo* info)
      : api_(api),
        clips_{ort::attribute(api, info, "cell_clip"), ort::attribute(api, info, "proj_clip")},
        h_range_(ort::attribute(api, info, "h_range")) {}

  void compute(ort::KernelContext* context) const {
    const auto in = [&](size_t index) { return ort::input(api_, context, index); };
    check_sizes(context);
    const auto counts = in(4);
    const int64_t batch = in(5).shape[0], h_size = in(5).shape[1], c_size = in(7).shape[1];
    const int64_t n_rows = in(2).shape[0];
    std::vector<Direction<Recurrent, Projection>> directions;
    for (size_t d = 0; d < 2; ++d) {
      directions.push_back({
          in(d).template as<float>(),
          in(2 + d).template as<int64_t>(),
          {in(9 + d).data, Recurrent::kScaled ? in(13 + d).data : nullptr, h_size, h_range_},
          {in(11 + d).data,
           Projection::kScaled ? in((Recurrent::kScaled ? 15 : 13) + d).data : nullptr, c_size, 1},
          ort::output(api_, context, d, n_rows, h_size).template as<float>(),
          ort::output(api_, context, 2 + d, batch, c_size).template as<float>(),
          {},
          {},
      });
      directions[d].begin(in(5 + d).template as<float>(), in(7 + d).template as<float>(), batch);
    }
    check_steps(counts, batch, n_rows);
    const int64_t groups = c_size / kPanel, panels = h_size / kPanel;
    int64_t start = 0;
    for (int64_t t = 0; t < counts.count; ++t) {
      const int64_t count = counts.template as<int64_t>()[t];
      if (count == 0) break;
      auto update = [&](size_t task) {
        directions[task / groups].update_cells(start, count, task % groups, clips_);
      };
      ort::parallel_for(api_, context, 2 * groups, update);
      auto project = [&](size_t task) {
        directions[task / panels].project(start, count, task % panels, clips_);
      };
      ort::parallel_for(api_, context, 2 * panels, project);
      start += count;
    }
  }

  const ort::Api& api() const { return api_; }

 private:
  void require(bool condition, const char* message) const {
    if (!condition) throw ort::Failure{ort::create_status(api_, ort::kInvalidArgument, message)};
  }

  // With the right number of axes, the shapes say how many elements there are.
  void check_ranks(const ort::KernelContext* context) const {
    constexpr size_t kInputs = 13 + 2 * Recurrent::kScaled + 2 * Projection::kScaled;
    for (size_t i = 0; i < kInputs; ++i) {
      const bool is_list = (i >= 2 && i <= 4) || i >= 13, is_panels = i >= 9 && i <= 12;
      const size_t rank = is_list ? 1 : is_panels ? 4 : 2;
      require(ort::input(api_, context, i).rank == rank, "an input has another number of axes");
    }
  }

  // An activation of int8 would be cut off at the range that its step was made for.
  void check_range(const ort::Tensor& h) const {
    const float most = h_range_ * (1 + 1.0f / 1024);  // a state may have been rounded to FP16
    for (int64_t i = 0; i < h.count; ++i)
      require(std::abs(h.template as<float>()[i]) <= most, "h is beyond what the model can reach");
  }

  void check_sizes(const ort::KernelContext* context) const {
    const auto in = [&](size_t index) { return ort::input(api_, context, index); };
    check_ranks(context);
    const int64_t batch = in(5).shape[0], h_size = in(5).shape[1], c_size = in(7).shape[1];
    require(h_size > 0 && h_size % kPanel == 0 && c_size > 0 && c_size % kPanel == 0,
            "sizes must be multiples of 16");
    for (size_t d = 0; d < 2; ++d) {
      require(in(d).shape[1] == 4 * c_size, "products must have four gates");
      require(in(2 + d).shape[0] == in(2).shape[0], "both directions must have the same rows");
      require(in(5 + d).shape[0] == batch && in(5 + d).shape[1] == h_size, "h differs in shape");
      if (Recurrent::kScaled) check_range(in(5 + d));
      require(in(7 + d).shape[0] == batch && in(7 + d).shape[1] == c_size, "c differs in shape");
      require(in(9 + d).count == h_size * 4 * c_size, "the recurrent weight differs in size");
      require(in(11 + d).count == c_size * h_size, "the projection weight differs in size");
      size_t scales = 13 + d;
      if (Recurrent::kScaled) {
        require(in(scales).count == 4 * c_size, "the recurrent scales differ in size");
        scales += 2;
      }
      if (Projection::kScaled)
        require(in(scales).count == h_size, "the projection scales differ in size");
      const auto rows = in(2 + d);
      const int64_t words = in(d).shape[0];
      for (int64_t i = 0; i < rows.count; ++i) {
        const int64_t row = rows.template as<int64_t>()[i];
        require(row >= 0 && row < words, "a row has no product");
      }
    }
  }

  // The counts fall from at most the batch, and tell of all rows.
  void check_steps(const ort::Tensor& counts, int64_t batch, int64_t n_rows) const {
    int64_t before = batch, total = 0;
    for (int64_t t = 0; t < counts.count; ++t) {
      const int64_t count = counts.as<int64_t>()[t];
      require(count >= 0 && count <= before, "counts must fall from at most the batch");
      before = count;
      total += count;
    }
    require(total == n_rows, "counts must sum to the rows");
  }

  const ort::Api& api_;
  const Clips clips_;
  const float h_range_;
};

template <class Format>
constexpr ort::ElementType element_type() {
  return Format::kScaled ? ort::kInt8 : ort::kFloat32;
}

// The description of an operator and its callbacks.
template <class Recurrent, class Projection>
ort::CustomOp describe(const char* (*name)(const ort::CustomOp*)) {
  using ort::CustomOp;
  using OwnKernel = Kernel<Recurrent, Projection>;
  CustomOp op;
  op.get_name = name;
  op.get_execution_provider = [](const CustomOp*) { return "CPUExecutionProvider"; };
  op.get_input_count = [](const CustomOp*) -> size_t {
    return 13 + 2 * Recurrent::kScaled + 2 * Projection::kScaled;
  };
  op.get_input_type = [](const CustomOp*, size_t index) {
    if (index == 2 || index == 3 || index == 4) return ort::kInt64;
    if (index == 9 || index == 10) return element_type<Recurrent>();
    if (index == 11 || index == 12) return element_type<Projection>();
    return ort::kFloat32;
  };
  op.get_output_count = [](const CustomOp*) -> size_t { return 4; };
  op.get_output_type = [](const CustomOp*, size_t) { return ort::kFloat32; };
  op.get_input_characteristic = [](const CustomOp*, size_t) { return ort::kRequired; };
  op.get_output_characteristic = [](const CustomOp*, size_t) { return ort::kRequired; };
  op.get_input_memory = [](const CustomOp*, size_t) { return ort::kDefaultMemory; };
  op.create_kernel_v2 = [](const CustomOp*, const ort::Api* api, const ort::KernelInfo* info,
                           void** kernel) -> ort::Status* {
    try {
      *kernel = new OwnKernel(*api, info);
      return nullptr;
    } catch (const ort::Failure& failure) {
      return failure.status;
    }
  };
  op.destroy_kernel = [](void* kernel) { delete static_cast<OwnKernel*>(kernel); };
  op.compute_v2 = [](void* kernel, ort::KernelContext* context) -> ort::Status* {
    const auto& own = *static_cast<const OwnKernel*>(kernel);
    try {
      own.compute(context);
      return nullptr;
    } catch (const ort::Failure& failure) {
      return failure.status;
    } catch (const std::bad_alloc&) {
      return ort::create_status(own.api(), ort::kFail, "bad_alloc in PackedLstmp");
    }
  };
  return op;
}

}  // namespace
}  // namespace lstmp

// Called by ONNX Runtime for each session that asks for this library.
extern "C" __attribute__((visibility("default"))) ort::Status* RegisterCustomOps(
    ort::SessionOptions* options, const ort::ApiBase* base) {
  using namespace lstmp;
  const ort::Api* api = base->get_api(ort::kApiVersion);
  if (!api) return nullptr;  // older than 1.17: it goes on with the functions
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
    return ort::create_status(*api, ort::kNotImplemented, "this processor lacks AVX2 or FMA");
  using ort::CustomOp;
  static const CustomOp operators[] = {
      describe<Float32, Float32>([](const CustomOp*) { return "PackedLstmpFp32"; }),
      describe<Int8, Int8>([](const CustomOp*) { return "PackedLstmpInt8"; }),
      describe<Int8, Float32>([](const CustomOp*) { return "PackedLstmpInt8Fp32"; }),
  };
  const CustomOp* pointers[std::size(operators)];
  for (size_t i = 0; i < std::size(operators); ++i) pointers[i] = &operators[i];
  // A domain must outlive its sessions, so there is one for all of them.
  static ort::CustomOpDomain* domain = nullptr;
  static ort::Status* const failed =
      ort::create_domain(*api, "elmo_deploy", pointers, std::size(operators), &domain);
  if (failed) return ort::create_status(*api, ort::kFail, "the operators cannot be described");
  return ort::add_domain(*api, options, domain);
}
