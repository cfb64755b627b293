#include "kernels/rbf_neighbours.h"

#include "simd.h"

namespace polyfield {
namespace POLYFIELD_ISA {
namespace {

constexpr float infinity = __builtin_inff();
constexpr int block = 16;             // points whose lists are asked for at once
constexpr int64_t most_compared = 160;  // candidates that are compared each with each

PF_INLINE vi numbers() {
  vi v;
  for (int i = 0; i < W; ++i) v[i] = i;
  return v;
}

// Squared distances are compared as the bits that they are: up to infinity these rise with the number, and whole numbers
// are compared in fewer cycles. All bits are set where a distance has been taken or is none.
PF_INLINE vu lower_of(vu a, vu b) {
#if defined(__AVX512F__)
  return (vu)_mm512_min_epu32((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (vu)_mm256_min_epu32((__m256i)a, (__m256i)b);
#else
  const vu less = (vu)(a < b);
  return (a & less) | (b & ~less);
#endif
}

// The least lane, in all lanes.
PF_INLINE vu least(vu v) {
#if defined(__AVX512F__)
  return splat_u(_mm512_reduce_min_epu32((__m512i)v));
#elif defined(__AVX2__)
  const auto all = (__m256i)v;
  v = lower_of(v, (vu)_mm256_permute2x128_si256(all, all, 1));
  v = lower_of(v, (vu)_mm256_shuffle_epi32((__m256i)v, 0x4e));
  return lower_of(v, (vu)_mm256_shuffle_epi32((__m256i)v, 0xb1));
#else
  uint32_t low = v[0];
  for (int i = 1; i < W; ++i) low = v[i] < low ? v[i] : low;
  return splat_u(low);
#endif
}

// Squared distances from a point to W centres of a list, from the i-th on.
template <int D>
PF_INLINE vf squares(const float* list, int64_t count, int64_t i, const float* x, const float* extent) {
  vf sum = {};
  for (int d = 0; d < D; ++d) {
    const vf apart = (splat(x[d]) - load(list + d * count + i)) * splat(extent[d]);
    sum = d == 0 ? apart * apart : fma(apart, apart, sum);
  }
  return sum;
}

PF_INLINE int32_t id_at(const float* list, int64_t count, int dim, int64_t i) {
  int32_t id;
  __builtin_memcpy(&id, list + dim * count + i, sizeof id);
  return id;
}

// Takes the nearest out of V vectors of distances, one after the other.
template <int D, int V>
PF_INLINE void take_few(const float* list, int64_t count, int wanted, const float* x, const float* extent, int32_t* ids) {
  const vi lanes = numbers();
  vu far[V];
  for (int v = 0; v < V; ++v) {
    const auto beyond = (vu)(lanes >= splat_i(static_cast<int32_t>(count) - v * W));
    far[v] = (vu)squares<D>(list, count, v * W, x, extent) | beyond;
  }
  for (int k = 0; k < wanted; ++k) {
    vu low = far[0];
    for (int v = 1; v < V; ++v) low = lower_of(low, far[v]);
    low = least(low);
    int found = 0, as_near = 0;
    for (int v = V - 1; v >= 0; --v) {
      const uint32_t bits = bits_of(far[v] == low);
      found = bits ? v * W + __builtin_ctz(bits) : found;
      as_near += __builtin_popcount(bits);
    }
    ids[k] = id_at(list, count, D, found);
    if (__builtin_expect(as_near == 1, 1))  // which need not be known for this, so that the next round can begin
      for (int v = 0; v < V; ++v) far[v] |= (vu)(far[v] == low);
    else
      for (int v = 0; v < V; ++v) far[v] |= (vu)(lanes == splat_i(found - v * W));
  }
}

template <int D>
PF_INLINE void take(const float* list, int64_t count, int wanted, const float* x, const float* extent, int32_t* ids) {
  if (count <= 16)
    take_few<D, 16 / W>(list, count, wanted, x, extent, ids);
  else if (count <= 32)
    take_few<D, 32 / W>(list, count, wanted, x, extent, ids);
  else if (count <= rbf_longest_list / 2)
    take_few<D, rbf_longest_list / 2 / W>(list, count, wanted, x, extent, ids);
  else
    take_few<D, rbf_longest_list / W>(list, count, wanted, x, extent, ids);
}

// The nearest so far, sorted, of equally far ones the lower first: a key is the bits of a distance and behind them an id.
struct Nearest {
  uint64_t keys[rbf_most_neighbours];
  int wanted;

  PF_INLINE Nearest none(int wanted) {
    Nearest best;
    best.wanted = wanted;
    for (int k = 0; k < wanted; ++k) best.keys[k] = key_of(infinity, k);
    return best;
  }
  PF_INLINE uint64_t key_of(float far, int32_t id) {
    uint32_t bits;
    __builtin_memcpy(&bits, &far, sizeof bits);
    return uint64_t{bits} << 32 | static_cast<uint32_t>(id);
  }
  // Without a jump that depends on where it belongs: no guess at that would be good.
  PF_INLINE void insert(Nearest& best, float far, int32_t id) {
    uint64_t key = key_of(far, id);
    for (int k = 0; k < best.wanted; ++k) {
      const uint64_t here = best.keys[k];
      const bool before = key < here;
      best.keys[k] = before ? key : here;
      key = before ? here : key;
    }
  }
  // How far the last one is.
  PF_INLINE float reach(const Nearest& best) {
    const auto bits = static_cast<uint32_t>(best.keys[best.wanted - 1] >> 32);
    float far;
    __builtin_memcpy(&far, &bits, sizeof far);
    return far;
  }
};

// Squared distances from a point to the boxes of a group. They round as distances to centres do, which are monotone in
// each coordinate: no centre of a box comes out nearer than the box.
template <int D>
PF_INLINE void to_boxes(const float* group, const float* x, const float* extent, float* far) {
  for (int i = 0; i < rbf_group; i += W) {
    vf sum = {};
    for (int d = 0; d < D; ++d) {
      const vf below = load(group + d * rbf_group + i) - splat(x[d]),
               above = splat(x[d]) - load(group + (D + d) * rbf_group + i);
      const vf apart = max(max(below, above), splat(0.f)) * splat(extent[d]);
      sum = d == 0 ? apart * apart : fma(apart, apart, sum);
    }
    store(far + i, sum);
  }
}

PF_INLINE int least_of(const float* far) {
  vu low = (vu)load(far);
  for (int i = W; i < rbf_group; i += W) low = lower_of(low, (vu)load(far + i));
  low = least(low);
  for (int i = 0; i < rbf_group; i += W) {
    const uint32_t bits = bits_of((vu)load(far + i) == low);
    if (bits) return i + __builtin_ctz(bits);
  }
  return 0;
}

// Of a group of centres, takes those that are among the nearest so far.
template <int D>
PF_INLINE void look_at(const float* list, const RbfIndex& index, const float* x, Nearest& best) {
  float far[rbf_group];
  for (int i = 0; i < rbf_group; i += W) store(far + i, squares<D>(list, rbf_group, i, x, index.extent));
  for (int i = 0; i < rbf_group; i += W) {
    uint32_t bits = bits_of((load(far + i) <= splat(Nearest::reach(best))) & (load(far + i) < splat(infinity)));
    for (; bits; bits &= bits - 1) {
      const int one = i + __builtin_ctz(bits);
      Nearest::insert(best, far[one], id_at(list, rbf_group, D, one));
    }
  }
}

// Goes down the tree, nearest boxes first.
template <int D>
PF_INLINE void walk(const RbfIndex& index, const float* numbers, const float* x, int32_t* ids) {
  struct Visit {
    float far[rbf_group];
    int64_t group;
  } visits[rbf_most_levels];
  const int top = index.levels - 1;
  Nearest best = Nearest::none(index.neighbours);
  const auto enter = [&](int level, int64_t group) {
    visits[level].group = group;
    to_boxes<D>(numbers + index.level_at[level] + group * (2 * D * rbf_group), x, index.extent, visits[level].far);
  };
  const auto group_of_centres = [&](int64_t group) {
    look_at<D>(numbers + index.level_at[0] + group * ((D + 1) * rbf_group), index, x, best);
  };
  if (top == 0)
    group_of_centres(0);
  else
    enter(top, 0);
  for (int level = top; top > 0 && level <= top;) {
    Visit& visit = visits[level];
    const int least = least_of(visit.far);
    const float far = visit.far[least];
    if (!(far < infinity) || far > Nearest::reach(best)) {
      ++level;
      continue;
    }
    visit.far[least] = infinity;
    const int64_t group = visit.group * rbf_group + least;
    if (level > 1)
      enter(--level, group);
    else
      group_of_centres(group);
  }
  for (int k = 0; k < best.wanted; ++k) ids[k] = static_cast<int32_t>(best.keys[k]);
}

// Where a point lies in a cell: in [0, 1) along each axis.
struct Place {
  const RbfNode* node;
  float within[rbf_most_dim];
};

template <int D>
PF_INLINE const RbfNode* part_of(const RbfNode* nodes, Place& place) {
  int part = 0;
  for (int d = 0; d < D; ++d) {
    place.within[d] *= 2.f;
    const int upper = place.within[d] >= 1.f;
    place.within[d] -= static_cast<float>(upper);
    part |= upper << d;
  }
  return nodes + place.node->first + part;
}

template <int D>
PF_INLINE void nearest_in(const RbfIndex& index, const float* x, int32_t* ids, int64_t begin, int64_t end) {
  const auto* bytes = reinterpret_cast<const char*>(&index);
  const auto* nodes = reinterpret_cast<const RbfNode*>(bytes + index.nodes_at);
  const auto* numbers = reinterpret_cast<const float*>(bytes + index.numbers_at);
  const RbfNode far_off = {0, 0};
  const int wanted = index.neighbours;
  for (int64_t n = begin; n < end; n += block) {
    const int count = end - n < block ? static_cast<int>(end - n) : block;
    Place places[block];
    for (int p = 0; p < count; ++p) {
      const float* at = x + (n + p) * D;
      int64_t cell = 0;
      bool inside = true;
      for (int d = D - 1; d >= 0; --d) {
        inside &= at[d] >= 0.f && at[d] <= 1.f;
        const float q = inside ? at[d] * static_cast<float>(index.cells[d]) : 0.f;
        int32_t c = static_cast<int32_t>(q);
        c = c < index.cells[d] ? c : index.cells[d] - 1;
        places[p].within[d] = q - static_cast<float>(c);
        cell = cell * index.cells[d] + c;
      }
      places[p].node = inside ? nodes + cell : &far_off;
      __builtin_prefetch(places[p].node);
    }
    for (int p = 0; p < count; ++p) {
      while (places[p].node->count < 0) places[p].node = part_of<D>(nodes, places[p]);
      const float* list = numbers + places[p].node->first;
      const int64_t length = (D + 1) * places[p].node->count;
      for (int64_t i = 0; i < length && i < 64; i += 16) __builtin_prefetch(list + i);
    }
    for (int p = 0; p < count; ++p) {
      const float* at = x + (n + p) * D;
      int32_t* to = ids + (n + p) * wanted;
      bool finite = true;
      for (int d = 0; d < D; ++d) finite &= at[d] - at[d] == 0.f;
      if (!finite)
        for (int k = 0; k < wanted; ++k) to[k] = -1;
      else if (places[p].node->count > 0)
        take<D>(numbers + places[p].node->first, places[p].node->count, wanted, at, index.extent, to);
      else
        walk<D>(index, numbers, at, to);
    }
  }
}

void nearest(const RbfIndex& index, const float* x, int32_t* ids, int64_t begin, int64_t end) {
  switch (index.dim) {
    case 1: nearest_in<1>(index, x, ids, begin, end); break;
    case 2: nearest_in<2>(index, x, ids, begin, end); break;
    default: nearest_in<3>(index, x, ids, begin, end);
  }
}

// A relative error of a few times 2^-24 here and in `nearest` must not cost a neighbour.
constexpr float slack = 1e-5f;

PF_INLINE vf apart_from(const RbfCandidates& from, int d, int64_t i, float middle) {
  const float* coordinates = from.coordinates + d * from.stride + i;
  return (from.count - i < W ? load_part(coordinates, static_cast<int>(from.count - i)) : load(coordinates)) - splat(middle);
}

// First the wanted-th least of the greatest distances that centres can have from a point of the box, for none of its
// points needs to look farther; then the candidates that can be as near as that.
PF_INLINE int64_t prune_far(const RbfCandidates& from, const RbfBox& box, const float* extent, int dim, int wanted,
                            float* near, int32_t* kept) {
  Nearest nearest = Nearest::none(wanted);
  for (int64_t i = 0; i < from.count; i += W) {
    vf least_square = {}, most_square = {};
    for (int d = 0; d < dim; ++d) {
      const vf apart = apart_from(from, d, i, box.middle[d]);
      const vf off = max(apart, -apart), gap = max(off - splat(box.half[d]), splat(0.f)) * splat(extent[d]),
               span = (off + splat(box.half[d])) * splat(extent[d]);
      least_square += gap * gap;
      most_square += span * span;
    }
    store(near + i, least_square);
    const int count = from.count - i < W ? static_cast<int>(from.count - i) : W;
    uint32_t bits = bits_of((most_square < splat(Nearest::reach(nearest))) & (numbers() < splat_i(count)));
    for (; bits; bits &= bits - 1) Nearest::insert(nearest, most_square[__builtin_ctz(bits)], 0);
  }
  const float limit = Nearest::reach(nearest) * (1.f + slack);
  int64_t left = 0;
  for (int64_t i = 0; i < from.count; i += W) {
    uint32_t bits = bits_of(load(near + i) <= splat(limit));
    if (from.count - i < W) bits &= (1u << (from.count - i)) - 1u;
    for (; bits; bits &= bits - 1) kept[left++] = static_cast<int32_t>(i) + __builtin_ctz(bits);
  }
  return left;
}

// Drops candidates that have enough others nearer everywhere in the box. The difference of two squared distances is
// linear in the point, so it is least in a corner.
PF_INLINE int64_t prune_hidden(const RbfCandidates& from, const RbfBox& box, const float* extent, int dim, int wanted,
                               float* scratch, int32_t* kept, int64_t count) {
  const int64_t stride = (count + W - 1) / W * W;
  float *place = scratch, *square = place + dim * stride, *hidden_by = square + stride, diagonal = 0.f;
  for (int64_t i = 0; i < stride; ++i) square[i] = infinity;  // hides nothing
  for (int64_t i = 0; i < count; ++i) square[i] = 0.f;
  for (int d = 0; d < dim; ++d) {
    const float half = box.half[d] * extent[d];
    diagonal += half * half;
    for (int64_t i = count; i < stride; ++i) place[d * stride + i] = 0.f;
    for (int64_t i = 0; i < count; ++i) {
      const float off = (from.coordinates[d * from.stride + kept[i]] - box.middle[d]) * extent[d];
      place[d * stride + i] = off;
      square[i] += off * off;
    }
  }
  for (int64_t i = 0; i < count; ++i) {
    int hiding = 0;
    for (int64_t j = 0; j < count && hiding < wanted; j += W) {
      vf span = {};
      for (int d = 0; d < dim; ++d) {
        const vf apart = splat(place[d * stride + i]) - load(place + d * stride + j);
        span = fma(max(apart, -apart), splat(2.f * box.half[d] * extent[d]), span);
      }
      const vf others = load(square + j), own = splat(square[i]);
      hiding += __builtin_popcount(bits_of(own - others - span > splat(slack) * (own + others + splat(diagonal))));
      // Of those at the very same place the lower goes first.
      for (uint32_t same = bits_of((span == splat(0.f)) & (others == own)); same; same &= same - 1) {
        const int64_t other = j + __builtin_ctz(same);
        bool equal = other < i;
        for (int d = 0; d < dim && equal; ++d) {
          const float* coordinates = from.coordinates + d * from.stride;
          equal = coordinates[kept[i]] == coordinates[kept[other]];
        }
        hiding += equal;
      }
    }
    hidden_by[i] = static_cast<float>(hiding);
  }
  int64_t left = 0;
  for (int64_t i = 0; i < count; ++i)
    if (hidden_by[i] < static_cast<float>(wanted)) kept[left++] = kept[i];
  return left;
}

int64_t prune(const RbfCandidates& from, const RbfBox& box, const float* extent, int dim, int wanted, float* scratch,
              int32_t* kept) {
  const int64_t left = prune_far(from, box, extent, dim, wanted, scratch, kept);
  if (left <= wanted || left > most_compared) return left;
  return prune_hidden(from, box, extent, dim, wanted, scratch, kept, left);
}

}  // namespace

const RbfNeighboursKernels rbf_neighbours = {nearest, prune};

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
