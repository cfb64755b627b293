// The network of one call: its layers with padded sizes, its packed weights, and the scratch memory of its threads.
#pragma once

#include <new>

#include "mlp_activation.h"
#include "mlp_panel.h"

namespace polyfield {
namespace POLYFIELD_ISA {

constexpr int MAX_LAYERS = 9;

// Memory of the calling thread that only grows: no page faults and no allocation from the second call on.
class Arena {
 public:
  ~Arena() { release(); }
  char* take(int64_t bytes) {
    if (bytes > size_) {
      release();
      data_ = static_cast<char*>(::operator new(bytes, std::align_val_t(4096)));
      size_ = bytes;
    }
    return data_;
  }

 private:
  void release() {
    if (data_ != nullptr) ::operator delete(data_, std::align_val_t(4096));
    data_ = nullptr;
    size_ = 0;
  }
  char* data_ = nullptr;
  int64_t size_ = 0;
};

// Hands out parts of a block of memory; with a null base it only counts.
struct Cutter {
  char* base;
  int64_t used = 0;
  template <class T>
  T* cut(int64_t count) {
    T* part = base == nullptr ? nullptr : reinterpret_cast<T*>(base + used);
    used += round_up(count * static_cast<int64_t>(sizeof(T)), 64);
    return part;
  }
};

struct Layer {
  int64_t in, out;       // of its matrix in the flat weights
  int64_t lead;          // columns that come from the layer before; the rest come from the network's input
  int64_t padded_lead;   // where the input's columns start in the panel
  int64_t columns;       // padded_lead + columns from the input
  int64_t weights, bias; // offsets in the flat weights
  word* rows;            // packed [out][columns]
  word* turned;          // packed [columns][out], for the backward pass
  float* padded_bias;
};

template <class E>
struct Network {
  MlpShape shape;
  int count = 0;
  int64_t parameters = 0;
  Layer layer[MAX_LAYERS];
  float* frequencies = nullptr;  // of the first hidden layer's rows, where it is composed

  explicit Network(const MlpShape& s) : shape(s), count(static_cast<int>(s.hidden) + 1) {
    for (int l = 0; l < count; ++l) {
      Layer& a = layer[l];
      a.lead = l == 0 ? 0 : s.width;
      const int64_t tail = l == 0 || (s.skips >> l & 1) ? s.inputs : 0;
      a.in = a.lead + tail;
      a.out = l == count - 1 ? s.outputs : s.width;
      a.padded_lead = round_up(a.lead, E::STEPS);
      a.columns = tail == 0 ? a.lead : a.padded_lead + tail;
      a.weights = parameters;
      parameters += a.in * a.out;
    }
    for (int l = 0; l < count; ++l) {
      layer[l].bias = parameters;
      if (s.bias) parameters += layer[l].out;
    }
  }

  int64_t steps(int l) const { return round_up(layer[l].columns, E::STEPS) / E::PAIR; }      // summed when going forward
  int64_t back_steps(int l) const { return round_up(layer[l].out, E::STEPS) / E::PAIR; }     // summed when going back
  int64_t outs(int l) const { return round_up(layer[l].out, l == count - 1 ? E::ROWS : E::STEPS); }
  int64_t panel_words(int l) const { return steps(l) * PANEL; }
  // The weights' gradients are summed as [out][columns] or, where that needs less padding, as [columns][out].
  bool swapped(int l) const {
    const int64_t out = layer[l].out, in = layer[l].columns;
    return round_up(in, E::ROWS) * round_up(out, E::COLUMNS) < round_up(out, E::ROWS) * round_up(in, E::COLUMNS);
  }
  int64_t gradient_rows(int l) const { return round_up(swapped(l) ? layer[l].columns : layer[l].out, E::ROWS); }
  int64_t gradient_columns(int l) const { return round_up(swapped(l) ? layer[l].out : layer[l].columns, E::COLUMNS); }
  int64_t gradient_size(int l) const { return gradient_rows(l) * gradient_columns(l); }
  int64_t input_rows() const { return round_up(shape.inputs, E::STEPS); }
  int64_t width_rows() const { return round_up(shape.width, E::STEPS); }
  int64_t output_rows() const { return round_up(shape.outputs, E::STEPS); }

  void cut_weights(Cutter& memory, bool backward) {
    for (int l = 0; l < count; ++l) {
      layer[l].rows = memory.cut<word>(outs(l) * steps(l));
      layer[l].padded_bias = memory.cut<float>(outs(l));
      if (backward) layer[l].turned = memory.cut<word>(round_up(layer[l].columns, E::STEPS) * back_steps(l));
    }
    if (shape.composed()) frequencies = memory.cut<float>(outs(0));
  }

  void pack(const float* flat, bool backward) {
    const double growth = shape.highest_frequency / shape.lowest_frequency;
    for (int64_t k = 0; shape.composed() && k < outs(0); ++k) {
      const double place = shape.width > 1 ? static_cast<double>(k) / static_cast<double>(shape.width - 1) : 0.0;
      frequencies[k] = k < shape.width ? static_cast<float>(shape.lowest_frequency * __builtin_pow(growth, place)) : 0.f;
    }
    for (int l = 0; l < count; ++l) {
      const Layer& a = layer[l];
      const float* w = flat + a.weights;
      __builtin_memset(a.padded_bias, 0, outs(l) * sizeof(float));
      if (shape.bias) __builtin_memcpy(a.padded_bias, flat + a.bias, a.out * sizeof(float));
      __builtin_memset(a.rows, 0, outs(l) * steps(l) * sizeof(word));
      for (int64_t o = 0; o < a.out; ++o) {
        put_row(a.rows + o * steps(l), w + o * a.in, a.lead, 0);
        put_row(a.rows + o * steps(l), w + o * a.in + a.lead, a.in - a.lead, a.padded_lead);
      }
      if (!backward) continue;
      __builtin_memset(a.turned, 0, round_up(a.columns, E::STEPS) * back_steps(l) * sizeof(word));
      for (int64_t o = 0; o < a.out; o += W)
        for (int64_t i = 0; i < a.in; i += W) {
          const int outs = static_cast<int>(a.out - o < W ? a.out - o : W), ins = static_cast<int>(a.in - i < W ? a.in - i : W);
          vf block[W];
          for (int k = 0; k < W; ++k) block[k] = k < outs ? load_some(w + (o + k) * a.in + i, ins) : vf{};
          transpose(block);
          for (int k = 0; k < ins; ++k) E::put(a.turned + column_of(l, i + k) * back_steps(l), o, block[k], outs);
        }
    }
  }

  // Where column i of a layer's matrix lies in the padded panel.
  int64_t column_of(int l, int64_t i) const { return i < layer[l].lead ? i : layer[l].padded_lead + i - layer[l].lead; }

  // Whether the slopes of what layer l reads cannot be told from it.
  bool sloped(int l) const { return l > 0 && (smooth(shape.activation) || (l == 1 && shape.composed())); }

  double multiplies() const {
    double sum = 0;
    for (int l = 0; l < count; ++l) sum += static_cast<double>(layer[l].in) * static_cast<double>(layer[l].out);
    return sum;
  }

 private:
  // Writes `n` numbers as an engine's values from position `at` of a row of words.
  static void put_row(word* row, const float* from, int64_t n, int64_t at) {
    for (int64_t k = 0; k < n; k += W)
      E::put(row, at + k, load_some(from + k, n - k), static_cast<int>(n - k < W ? n - k : W));
  }
};

// What the backward pass needs of a panel: the words that each layer reads, and slopes where it cannot tell them.
template <class E>
struct Record {
  word* acts[MAX_LAYERS];
  float* slopes[MAX_LAYERS];  // of acts[l], or nullptr

  Record() = default;
  Record(const Network<E>& net, Cutter memory) { cut(net, memory); }
  void cut(const Network<E>& net, Cutter& memory) {
    for (int l = 0; l < net.count; ++l) {
      acts[l] = memory.cut<word>(net.panel_words(l));
      slopes[l] = net.sloped(l) ? memory.cut<float>(net.width_rows() * PANEL) : nullptr;
    }
  }
};

template <class E>
int64_t record_bytes(const Network<E>& net) {
  Cutter counted{nullptr};
  Record<E>().cut(net, counted);
  return counted.used;
}

// Points that make about this many multiplications: whole panels, at most `most`.
template <class E>
int64_t points_of(const Network<E>& net, double multiplies, int64_t most) {
  const double points = multiplies / net.multiplies();
  return points < PANEL ? PANEL : points < static_cast<double>(most) ? static_cast<int64_t>(points) / PANEL * PANEL : most;
}

template <int OUTS, int VECS>
PF_INLINE void add_bias(Block<OUTS, VECS>& z, const float* bias) {
#pragma GCC unroll 16
  for (int i = 0; i < OUTS; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < VECS; ++j) z.at[i][j] += splat(bias[i]);
}

// Epilogue of a hidden layer: bias, activation, and the panel that the next layer reads.
template <class E>
struct HiddenDone {
  const MlpShape& shape;
  const float* bias;
  word* panel;
  float* slopes;  // [features][64] or nullptr
  const float* frequencies;  // of the rows, or nullptr: not composed

  template <Activation A, bool SLOPE, int OUTS, int VECS>
  PF_INLINE void all(Block<OUTS, VECS>& z, float scale, float* slopes, int64_t o, int64_t n) {
    const vf by = splat(scale), inverse = splat(1.f / scale);
#pragma GCC unroll 16
    for (int i = 0; i < OUTS; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < VECS; ++j) {
        vf slope = {};
        z.at[i][j] = activate<A, SLOPE>(z.at[i][j], by, inverse, slope);
        if (SLOPE) polyfield::POLYFIELD_ISA::store(slopes + (o + i) * PANEL + n + j * W, slope);
      }
  }

  template <int OUTS, int VECS>
  __attribute__((always_inline)) void operator()(Block<OUTS, VECS>& z, int64_t o, int64_t n) const {
    if (shape.bias) add_bias(z, bias + o);
    if (frequencies == nullptr && shape.activation == Activation::relu) all<Activation::relu, false>(z, 1.f, nullptr, o, n);
    if (frequencies != nullptr || smooth(shape.activation)) {  // a copy, so that `z` can stay in registers around this call
      Block<OUTS, VECS> copy = z;
      if (frequencies != nullptr)
        compose(copy, o, n);
      else if (shape.activation == Activation::sine)
        bend<Activation::sine>(copy, o, n);
      else if (shape.activation == Activation::softplus)
        bend<Activation::softplus>(copy, o, n);
      else
        bend<Activation::gaussian>(copy, o, n);
      z = copy;
    }
    E::store(panel, o, n, z);
  }

  template <Activation A, int OUTS, int VECS>
  __attribute__((noinline)) void bend(Block<OUTS, VECS>& z, int64_t o, int64_t n) const {
    if (slopes == nullptr)
      all<A, false>(z, shape.scale, nullptr, o, n);
    else
      all<A, true>(z, shape.scale, slopes, o, n);
  }

  // z + sin(m z), m by row.
  template <int OUTS, int VECS>
  __attribute__((noinline)) void compose(Block<OUTS, VECS>& z, int64_t o, int64_t n) const {
    if (slopes == nullptr)
      add_sines<false>(z, frequencies + o, nullptr, n);
    else
      add_sines<true>(z, frequencies + o, slopes + o * PANEL, n);
  }

  template <bool SLOPE, int OUTS, int VECS>
  PF_INLINE void add_sines(Block<OUTS, VECS>& z, const float* frequencies, float* slopes, int64_t n) {
#pragma GCC unroll 16
    for (int i = 0; i < OUTS; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < VECS; ++j) {
        const vf m = splat(frequencies[i]);
        vf slope = {};
        z.at[i][j] += activate<Activation::sine, SLOPE>(z.at[i][j], m, m, slope);
        if (SLOPE) polyfield::POLYFIELD_ISA::store(slopes + i * PANEL + n + j * W, slope + splat(1.f));
      }
  }
};

// Epilogue of the last layer: a float panel of the outputs.
struct OutputDone {
  const float* bias;
  float* panel;
  template <int OUTS, int VECS>
  __attribute__((always_inline)) void operator()(Block<OUTS, VECS>& z, int64_t o, int64_t n) const {
#pragma GCC unroll 16
    for (int i = 0; i < OUTS; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < VECS; ++j) store(panel + (o + i) * PANEL + n + j * W, z.at[i][j] + splat(bias[o + i]));
  }
};

// Runs all hidden layers. acts[l] is the panel that layer l reads (acts[0] filled by the caller); slopes[l] belongs to
// the activations in acts[l].
template <class E>
PF_INLINE void run_hidden(const Network<E>& net, word* const* acts, float* const* slopes) {
  for (int l = 0; l + 1 < net.count; ++l) {
    const Layer& a = net.layer[l];
    product<E>(Rows{a.rows, net.steps(l), 0}, Columns{acts[l], PANEL, 0}, net.outs(l), PANEL, net.steps(l), 1,
               HiddenDone<E>{net.shape, a.padded_bias, acts[l + 1], slopes[l + 1], l == 0 ? net.frequencies : nullptr});
    if (net.shape.skips >> (l + 1) & 1)
      __builtin_memcpy(acts[l + 1] + net.layer[l + 1].padded_lead / E::PAIR * PANEL, acts[0],
                       net.panel_words(0) * sizeof(word));
  }
}

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
