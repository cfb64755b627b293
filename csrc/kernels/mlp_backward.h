// Backward pass: the hidden layers of a few panels are computed again, then gradients go back through all layers.
//
// Each thread adds up its own weight gradients over a fixed range of points; they are then summed in thread order.
#pragma once

#include "mlp_network.h"
#include "parallel.h"

namespace polyfield {
namespace POLYFIELD_ISA {

// Epilogue going back to the layer before: times the slope of its activation.
template <class E>
struct BackDone {
  Activation activation;
  const word* acts;     // activations that the rows belong to
  const float* slopes;  // of those activations, or nullptr
  word* panel;
  word* plain;

  template <int OUTS, int VECS>
  __attribute__((always_inline)) void operator()(Block<OUTS, VECS>& g, int64_t o, int64_t n) const {
    if (activation == Activation::relu) E::keep_positive(g, acts, o, n);
    if (slopes != nullptr) {
#pragma GCC unroll 16
      for (int i = 0; i < OUTS; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < VECS; ++j) g.at[i][j] *= load(slopes + (o + i) * PANEL + n + j * W);
    }
    E::store(panel, o, n, g);
    E::store_plain(plain, o, n, g);
  }
};

// Epilogue that adds to a float matrix: a thread's weight gradients, or a panel of input gradients.
struct AddDone {
  float* sum;
  int64_t columns;
  template <int OUTS, int VECS>
  __attribute__((always_inline)) void operator()(Block<OUTS, VECS>& g, int64_t o, int64_t n) const {
#pragma GCC unroll 16
    for (int i = 0; i < OUTS; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < VECS; ++j) {
        float* to = sum + (o + i) * columns + n + j * W;
        store(to, load(to) + g.at[i][j]);
      }
  }
};

// What one thread adds up.
template <class E>
struct GradientSums {
  float* weights[MAX_LAYERS];
  float* bias[MAX_LAYERS];  // [out][W] partial sums
  float* condition;

  GradientSums(const Network<E>& net, int64_t condition_size, Cutter& memory) {
    for (int l = 0; l < net.count; ++l) {
      weights[l] = memory.cut<float>(net.gradient_size(l));
      bias[l] = memory.cut<float>(net.shape.bias ? net.layer[l].out * W : 0);
    }
    condition = memory.cut<float>(condition_size);
  }
};

constexpr int MAX_PANELS = 8;

template <class E>
struct BackwardScratch {
  word* acts[MAX_PANELS][MAX_LAYERS];
  float* slopes[MAX_PANELS][MAX_LAYERS];
  word* panel[2];   // gradients going back, [features / PAIR][64], by panel; two in turn
  word* plain[2];   // the same, [features][64 / PAIR]
  word* turned;     // activations, [64 / PAIR][features], by panel
  float* dx;        // by panel
  float* stage;
  int64_t panel_size, plain_size, turned_size, dx_size;

  BackwardScratch(const Network<E>& net, int panels, Cutter& memory) {
    const bool sloped = smooth(net.shape.activation);
    const int64_t in = net.input_rows(), out = net.output_rows(), width = net.width_rows();
    const int64_t rows = out > width ? out : width;
    int64_t columns = 0;
    for (int l = 0; l < net.count; ++l) columns = net.gradient_columns(l) > columns ? net.gradient_columns(l) : columns;
    for (int t = 0; t < panels; ++t)
      for (int l = 0; l < net.count; ++l) {
        acts[t][l] = memory.cut<word>(net.panel_words(l));
        slopes[t][l] = sloped && l > 0 ? memory.cut<float>(width * PANEL) : nullptr;
      }
    panel_size = rows / E::PAIR * PANEL;
    plain_size = E::PAIR == 1 ? 0 : rows * (PANEL / E::PAIR);
    turned_size = columns * (PANEL / E::PAIR);
    dx_size = in * PANEL;
    for (int k = 0; k < 2; ++k) {
      panel[k] = memory.cut<word>(panels * panel_size);
      plain[k] = memory.cut<word>(panels * plain_size);
    }
    turned = memory.cut<word>(panels * turned_size);
    dx = memory.cut<float>(panels * dx_size);
    stage = memory.cut<float>((in > out ? in : out) * PANEL);
  }
  // Where the rows of the weight gradients' product lie.
  Rows gradient_rows(int k) const {
    return E::PAIR == 1 ? Rows{panel[k], PANEL, panel_size} : Rows{plain[k], PANEL / E::PAIR, plain_size};
  }
};

template <class E>
PF_INLINE void add_bias_gradients(const Network<E>& net, int l, Rows rows, float* sums) {
  for (int64_t o = 0; o < net.layer[l].out; ++o) {
    vf sum = load(sums + o * W);
    for (int64_t p = 0; p < PANEL / E::PAIR; p += W) {
      vu words;
      __builtin_memcpy(&words, rows.data + o * rows.stride + p, sizeof words);
      if constexpr (E::PAIR == 1)
        sum += (vf)words;
      else
        sum += (vf)(words << 16) + (vf)(words & splat_u(0xffff0000u));
    }
    store(sums + o * W, sum);
  }
}

// One panel's share of dL/dcondition: rows of points are added one by one, in order.
PF_INLINE void add_condition_gradients(const MlpInput& input, const float* dx, float* sums, int64_t first, int64_t count) {
  const int64_t c = input.condition_columns;
  const float* from = dx + input.x_columns * PANEL;
  for (int64_t p = 0; p < count; ++p) {
    float* to = sums + input.rows[first + p] * c;
    for (int64_t k = 0; k < c; ++k) to[k] += from[k * PANEL + p];
  }
}

// Goes back through all layers for `panels` panels that start at point `first`.
template <class E>
PF_INLINE void backward_tile(const Network<E>& net, const BackwardScratch<E>& s, const GradientSums<E>& sums,
                             const MlpInput& input, PointMatrix<const float> dy, const MlpGradients& wanted, int64_t first,
                             int64_t end, int panels) {
  const bool want_input = wanted.x.data != nullptr || wanted.condition != nullptr;
  auto count_of = [&](int t) { return end - first - t * PANEL < PANEL ? end - first - t * PANEL : PANEL; };
  int turn_of = 0;
  for (int t = 0; t < panels; ++t) {
    const int64_t begin = first + t * PANEL, count = count_of(t);
    load_input(s.stage, input, begin, count);
    clear_rows(s.stage, net.shape.inputs, net.input_rows());
    to_words<E>(s.acts[t][0], s.stage, net.input_rows());
    run_hidden(net, s.acts[t], s.slopes[t]);
    load_matrix(s.stage, dy, net.shape.outputs, begin, count);
    clear_rows(s.stage, net.shape.outputs, net.output_rows());
    for (int64_t o = 0; count < PANEL && o < net.shape.outputs; ++o)  // points past the end have no gradient
      for (int64_t p = count; p < PANEL; ++p) s.stage[o * PANEL + p] = 0.f;
    to_words<E>(s.panel[0] + t * s.panel_size, s.stage, net.output_rows());
    if (E::PAIR == 2) to_plain<E>(s.plain[0] + t * s.plain_size, s.stage, net.output_rows());
  }
  if (want_input) __builtin_memset(s.dx, 0, panels * s.dx_size * sizeof(float));
  for (int l = net.count - 1; l >= 0; --l) {
    const Layer& a = net.layer[l];
    const int64_t columns = net.gradient_columns(l);
    for (int t = 0; t < panels; ++t)
      turn<E>(s.turned + t * s.turned_size, s.acts[t][l], net.steps(l) * E::PAIR, columns);
    const Rows rows = s.gradient_rows(turn_of);
    product<E>(rows, Columns{s.turned, columns, s.turned_size}, round_up(a.out, E::ROWS), columns, PANEL / E::PAIR, panels,
               AddDone{sums.weights[l], columns});
    if (net.shape.bias)
      for (int t = 0; t < panels; ++t)
        add_bias_gradients(net, l, Rows{rows.data + t * rows.panel, rows.stride, 0}, sums.bias[l]);
    const int next = 1 - turn_of;
    for (int t = 0; t < panels; ++t) {
      const Columns gradients = {s.panel[turn_of] + t * s.panel_size, PANEL, 0};
      const int64_t steps = net.back_steps(l), from_input = a.columns - a.padded_lead;
      if (l > 0)
        product<E>(Rows{a.turned, steps, 0}, gradients, a.padded_lead, PANEL, steps, 1,
                   BackDone<E>{net.shape.activation, s.acts[t][l], s.slopes[t][l], s.panel[next] + t * s.panel_size,
                               s.plain[next] + t * s.plain_size});
      if (want_input && from_input > 0)
        product<E>(Rows{a.turned + a.padded_lead * steps, steps, 0}, gradients, round_up(from_input, E::STEPS), PANEL, steps, 1,
                   AddDone{s.dx + t * s.dx_size, PANEL});
    }
    turn_of = next;
  }
  for (int t = 0; t < panels && want_input; ++t) {
    const float* dx = s.dx + t * s.dx_size;
    if (wanted.x.data != nullptr) store_matrix(dx, wanted.x, input.x_columns, first + t * PANEL, count_of(t));
    if (wanted.condition != nullptr) add_condition_gradients(input, dx, sums.condition, first + t * PANEL, count_of(t));
  }
}

// Adds up the threads' sums, in thread order, into the flat gradients.
template <class E>
void collect(const Network<E>& net, const GradientSums<E>* sums, int threads, const MlpInput& input, const MlpGradients& to) {
  for (int l = 0; l < net.count; ++l) {
    const Layer& a = net.layer[l];
    parallel_for(a.out, 1 + 16384 / a.in, [&, l](int64_t begin, int64_t end, int) {
      for (int64_t o = begin; o < end; ++o) {
        float* row = to.weights + a.weights + o * a.in;
        for (int64_t i = 0; i < a.in; ++i) {
          const int64_t at = o * net.gradient_columns(l) + (i < a.lead ? i : a.padded_lead + i - a.lead);
          float sum = 0.f;
          for (int t = 0; t < threads; ++t) sum += sums[t].weights[l][at];
          row[i] = sum;
        }
      }
    });
    for (int64_t o = 0; o < a.out && net.shape.bias; ++o) {
      vf lanes = {};
      for (int t = 0; t < threads; ++t) lanes += load(sums[t].bias[l] + o * W);
      to.weights[a.bias + o] = sum(lanes);
    }
  }
  if (to.condition == nullptr) return;
  parallel_for(input.condition_rows * input.condition_columns, 16384, [&](int64_t begin, int64_t end, int) {
    for (int64_t k = begin; k < end; ++k) {
      float sum = 0.f;
      for (int t = 0; t < threads; ++t) sum += sums[t].condition[k];
      to.condition[k] = sum;
    }
  });
}

// Panels a thread takes together: more of them share one pass over the weight gradients, while their activations
// should stay in the second cache.
template <class E>
int panels_together(const Network<E>& net) {
  int64_t bytes = 0;
  for (int l = 0; l < net.count; ++l)
    bytes += net.panel_words(l) * 4 + (smooth(net.shape.activation) ? net.width_rows() * PANEL * 4 : 0);
  const int64_t fit = 256 * 1024 / bytes;
  return static_cast<int>(fit < 1 ? 1 : fit > MAX_PANELS ? MAX_PANELS : fit);
}

template <class E>
void backward_with(const MlpShape& shape, const MlpInput& input, const float* weights, PointMatrix<const float> dy,
                   const MlpGradients& wanted, int64_t points) {
  static thread_local Arena arena;
  Network<E> net(shape);
  const int threads = thread_count(), panels = panels_together(net);
  const int64_t condition_size = wanted.condition != nullptr ? input.condition_rows * input.condition_columns : 0;
  Cutter counted{nullptr};
  net.cut_weights(counted, true);
  Cutter counted_sums{nullptr}, counted_scratch{nullptr};
  (void)GradientSums<E>(net, condition_size, counted_sums);
  (void)BackwardScratch<E>(net, panels, counted_scratch);
  const int64_t sums_bytes = round_up(counted_sums.used, 4096), scratch_bytes = round_up(counted_scratch.used, 4096);
  GradientSums<E>* sums = nullptr;
  Cutter counted_list{nullptr};
  counted_list.cut<GradientSums<E>>(threads);
  Cutter memory{arena.take(counted.used + counted_list.used + threads * (sums_bytes + scratch_bytes))};
  net.cut_weights(memory, true);
  net.pack(weights, true);
  sums = memory.cut<GradientSums<E>>(threads);
  char* scratch = memory.base + memory.used;
  char* sums_start = scratch + threads * scratch_bytes;
  for (int t = 0; t < threads; ++t) {
    Cutter part{sums_start + t * sums_bytes};
    new (sums + t) GradientSums<E>(net, condition_size, part);
  }
  __builtin_memset(sums_start, 0, threads * sums_bytes);

  parallel_for(points, PANEL, [&](int64_t begin, int64_t end, int thread) {
    [[maybe_unused]] TileUse<E::TILES> tiles;
    Cutter own{scratch + thread * scratch_bytes};
    const BackwardScratch<E> s(net, panels, own);
    for (int64_t first = begin; first < end; first += panels * PANEL) {
      const int64_t left = (end - first + PANEL - 1) / PANEL;
      backward_tile(net, s, sums[thread], input, dy, wanted, first, end, static_cast<int>(left < panels ? left : panels));
    }
  });
  collect(net, sums, threads, input, wanted);
}

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
