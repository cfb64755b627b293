// Backward pass: the hidden layers of a few panels are read, or computed again, then gradients go back through all layers.
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
    if (slopes != nullptr) {
#pragma GCC unroll 16
      for (int i = 0; i < OUTS; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < VECS; ++j) g.at[i][j] *= load(slopes + (o + i) * PANEL + n + j * W);
    }
    E::store_gradients(panel, plain, slopes == nullptr && activation == Activation::relu ? acts : nullptr, o, n, g);
  }
};

// Epilogue that adds to a float matrix: a thread's weight gradients, or a panel of input gradients.
struct AddDone {
  float* sum;
  int64_t columns;
  bool first = false;  // nothing is there yet
  template <int OUTS, int VECS>
  __attribute__((always_inline)) void operator()(Block<OUTS, VECS>& g, int64_t o, int64_t n) const {
#pragma GCC unroll 16
    for (int i = 0; i < OUTS; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < VECS; ++j) {
        float* to = sum + (o + i) * columns + n + j * W;
        store(to, first ? g.at[i][j] : load(to) + g.at[i][j]);
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
  char* records;   // of the panels whose layers are computed again
  word* panel[2];  // gradients going back, [features / PAIR][64], by panel; two in turn
  word* plain;     // gradients or activations in plain form, [features][64 / PAIR], by panel
  word* turned;    // activations or gradients, [64 / PAIR][features], by panel
  float* dx;       // by panel
  float* stage;
  int64_t record_size, panel_size, plain_size, turned_size, dx_size;

  BackwardScratch(const Network<E>& net, int panels, bool again, Cutter& memory) {
    const int64_t in = net.input_rows(), out = net.output_rows(), width = net.width_rows();
    int64_t rows = out > width ? out : width, columns = 0;
    panel_size = rows / E::PAIR * PANEL;
    for (int l = 0; l < net.count; ++l) {
      columns = net.gradient_columns(l) > columns ? net.gradient_columns(l) : columns;
      const int64_t plain_acts = net.swapped(l) ? net.steps(l) * E::PAIR : 0;
      rows = plain_acts > rows ? plain_acts : rows;
    }
    record_size = again ? record_bytes(net) : 0;
    plain_size = E::PAIR == 1 ? 0 : rows * (PANEL / E::PAIR);
    turned_size = columns * (PANEL / E::PAIR);
    dx_size = in * PANEL;
    records = memory.cut<char>(panels * record_size);
    for (int k = 0; k < 2; ++k) panel[k] = memory.cut<word>(panels * panel_size);
    plain = memory.cut<word>(panels * plain_size);
    turned = memory.cut<word>(panels * turned_size);
    dx = memory.cut<float>(panels * dx_size);
    stage = memory.cut<float>((in > out ? in : out) * PANEL);
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

// The gradient with respect to the last layer's sums, as a panel; points past the end have none.
template <class E>
PF_INLINE void load_upstream(word* panel, float* stage, const Network<E>& net, const MlpUpstream& from, int64_t first,
                             int64_t count) {
  const int64_t outputs = net.shape.outputs;
  load_matrix(stage, from.dy, outputs, first, count);
  if (net.shape.output_activation == Activation::sigmoid)
    for (int64_t o = 0; o < outputs; ++o)
      for (int64_t p = 0; p < count; ++p) {
        const float y = from.y.data[(first + p) * from.y.point + o * from.y.feature];
        stage[o * PANEL + p] *= y * (1.f - y);
      }
  clear_rows(stage, outputs, net.output_rows());
  for (int64_t o = 0; count < PANEL && o < outputs; ++o)
    for (int64_t p = count; p < PANEL; ++p) stage[o * PANEL + p] = 0.f;
  to_words<E>(panel, stage, net.output_rows());
}

// Adds to the gradients of layer l's weights and biases; `gradients` are panels of its outputs' gradients, whose plain
// form lies in s.plain.
template <class E>
PF_INLINE void add_weight_gradients(const Network<E>& net, int l, const BackwardScratch<E>& s, const GradientSums<E>& sums,
                                    const Record<E>* records, word* gradients, int panels) {
  const int64_t columns = net.gradient_columns(l), in = net.steps(l) * E::PAIR;
  const Rows rows = E::PAIR == 1 ? Rows{gradients, PANEL, s.panel_size} : Rows{s.plain, PANEL / E::PAIR, s.plain_size};
  if (net.shape.bias)
    for (int t = 0; t < panels; ++t)
      add_bias_gradients(net, l, Rows{rows.data + t * rows.panel, rows.stride, 0}, sums.bias[l]);
  if (net.swapped(l)) {
    for (int t = 0; t < panels; ++t) {
      turn<E>(s.turned + t * s.turned_size, gradients + t * s.panel_size, net.back_steps(l) * E::PAIR, columns);
      to_plain<E>(s.plain + t * s.plain_size, records[t].acts[l], in);
    }
  } else {
    for (int t = 0; t < panels; ++t) turn<E>(s.turned + t * s.turned_size, records[t].acts[l], in, columns);
  }
  const Columns turned = {s.turned, columns, s.turned_size};
  const AddDone done = {sums.weights[l], columns};
  if (E::PAIR == 1 && net.swapped(l))  // the records' own panels are the rows; they are summed one by one
    for (int t = 0; t < panels; ++t)
      product<E>(Rows{records[t].acts[l], PANEL, 0}, Columns{s.turned + t * s.turned_size, columns, 0}, net.gradient_rows(l),
                 columns, PANEL, 1, done);
  else
    product<E>(rows, turned, net.gradient_rows(l), columns, PANEL / E::PAIR, panels, done);
}

// Goes back through all layers for `panels` panels that start at point `first`.
template <class E>
PF_INLINE void backward_tile(const Network<E>& net, const BackwardScratch<E>& s, const GradientSums<E>& sums,
                             const MlpInput& input, const MlpUpstream& from, const MlpGradients& wanted,
                             const MlpSaved& saved, int64_t kept_bytes, int64_t first, int64_t end, int panels) {
  const bool want_input = wanted.x.data != nullptr || wanted.condition != nullptr;
  auto count_of = [&](int t) { return end - first - t * PANEL < PANEL ? end - first - t * PANEL : PANEL; };
  int turn_of = 0;
  Record<E> records[MAX_PANELS];
  for (int t = 0; t < panels; ++t) {
    const int64_t begin = first + t * PANEL, count = count_of(t);
    if (begin < saved.points) {
      records[t] = Record<E>(net, Cutter{saved.data + begin / PANEL * kept_bytes});
    } else {
      records[t] = Record<E>(net, Cutter{s.records + t * s.record_size});
      load_input(s.stage, input, begin, count);
      clear_rows(s.stage, net.shape.inputs, net.input_rows());
      to_words<E>(records[t].acts[0], s.stage, net.input_rows());
      run_hidden(net, records[t].acts, records[t].slopes);
    }
    word* gradients = s.panel[0] + t * s.panel_size;
    load_upstream(gradients, s.stage, net, from, begin, count);
    to_plain<E>(s.plain + t * s.plain_size, gradients, net.output_rows());
  }
  const bool adding = net.shape.skips != 0;  // several layers read the input
  if (want_input && adding) __builtin_memset(s.dx, 0, panels * s.dx_size * sizeof(float));
  for (int l = net.count - 1; l >= 0; --l) {
    const Layer& a = net.layer[l];
    add_weight_gradients(net, l, s, sums, records, s.panel[turn_of], panels);
    const int next = 1 - turn_of;
    for (int t = 0; t < panels; ++t) {
      const Columns gradients = {s.panel[turn_of] + t * s.panel_size, PANEL, 0};
      const int64_t steps = net.back_steps(l), from_input = a.columns - a.padded_lead;
      if (l > 0)
        product<E>(Rows{a.turned, steps, 0}, gradients, a.padded_lead, PANEL, steps, 1,
                   BackDone<E>{net.shape.activation, records[t].acts[l], records[t].slopes[l],
                               s.panel[next] + t * s.panel_size, s.plain + t * s.plain_size});
      if (want_input && from_input > 0)
        product<E>(Rows{a.turned + a.padded_lead * steps, steps, 0}, gradients, round_up(from_input, E::STEPS), PANEL, steps, 1,
                   AddDone{s.dx + t * s.dx_size, PANEL, !adding});
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
    const int64_t columns = net.gradient_columns(l);
    parallel_for(a.out, 1 + 16384 / a.in, [&, l](int64_t begin, int64_t end, int) {
      for (int64_t o = begin; o < end; ++o) {
        float* row = to.weights + a.weights + o * a.in;
        if (net.swapped(l)) {
          for (int64_t i = 0; i < a.in; ++i) {
            float sum = 0.f;
            for (int t = 0; t < threads; ++t) sum += sums[t].weights[l][net.column_of(l, i) * columns + o];
            row[i] = sum;
          }
          continue;
        }
        for (int64_t i = 0, n; i < a.in; i += n) {
          n = (i < a.lead ? a.lead : a.in) - i;  // to the end of this part of the row
          n = n < W ? n : W;
          vf sum = {};
          for (int t = 0; t < threads; ++t) sum += load_some(sums[t].weights[l] + o * columns + net.column_of(l, i), n);
          store_some(row + i, sum, n);
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

// Panels a thread takes together: more of them share one pass over the weight gradients, while what one layer reads and
// writes should stay in the second cache.
template <class E>
int panels_together(const Network<E>& net) {
  Cutter counted{nullptr};
  (void)BackwardScratch<E>(net, 1, false, counted);
  const int64_t fit = 512 * 1024 / counted.used;
  return static_cast<int>(fit < 1 ? 1 : fit > MAX_PANELS ? MAX_PANELS : fit);
}

// Multiplications (the forward pass's) and points that are worth a thread.
constexpr double BACKWARD_WORK = 5e5;
constexpr int64_t BACKWARD_TASK = 1024;

template <class E>
void backward_with(const MlpShape& shape, const MlpInput& input, const float* weights, const MlpUpstream& from,
                   const MlpGradients& wanted, int64_t points, const MlpSaved& saved) {
  static thread_local Arena arena;
  Network<E> net(shape);
  const int threads = thread_count(), panels = panels_together(net);
  const int64_t condition_size = wanted.condition != nullptr ? input.condition_rows * input.condition_columns : 0;
  const bool again = saved.points < points;
  Cutter counted{nullptr};
  net.cut_weights(counted, true);
  Cutter counted_sums{nullptr}, counted_scratch{nullptr};
  (void)GradientSums<E>(net, condition_size, counted_sums);
  (void)BackwardScratch<E>(net, panels, again, counted_scratch);
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
  const int64_t kept_bytes = record_bytes(net);

  parallel_for(points, points_of(net, BACKWARD_WORK, BACKWARD_TASK), [&](int64_t begin, int64_t end, int thread) {
    [[maybe_unused]] TileUse<E::TILES> tiles;
    Cutter own{scratch + thread * scratch_bytes};
    const BackwardScratch<E> s(net, panels, again, own);
    for (int64_t first = begin; first < end; first += panels * PANEL) {
      const int64_t left = (end - first + PANEL - 1) / PANEL;
      backward_tile(net, s, sums[thread], input, from, wanted, saved, kept_bytes, first, end,
                    static_cast<int>(left < panels ? left : panels));
    }
  });
  collect(net, sums, threads, input, wanted);
}

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
