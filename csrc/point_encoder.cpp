#include "point_encoder.h"

#include <algorithm>
#include <vector>

#include "kernels/frequency.h"
#include "parallel.h"
#include "rbf_scatter.h"
#include "room.h"
#include "sparse_grid_scatter.h"

namespace polyfield {
namespace {

constexpr int64_t block = 256;  // points that are turned from rows into columns, or back, in the cache

// Lets `rows_of(first, count, rows)` write rows of `width`, some points at a time, and turns them: out[column][point].
template <class Rows>
void as_columns(int64_t n, int64_t width, float* out, Rows&& rows_of) {
  parallel_for(n, 1024, [&](int64_t begin, int64_t end, int) {
    thread_local std::vector<float> rows;
    for (int64_t first = begin; first < end; first += block) {
      const int64_t some = std::min<int64_t>(block, end - first);
      rows_of(first, some, room(rows, block * width));
      for (int64_t f = 0; f < width; ++f)
        for (int64_t i = 0; i < some; ++i) out[f * n + first + i] = rows[i * width + f];
    }
  });
}

// The other way: columns[column][point] as rows, which last until the next call.
const float* as_rows(int64_t n, int64_t width, const float* columns) {
  thread_local std::vector<float> memory;
  float* rows = room(memory, n * width);
  parallel_for(n, block, [&](int64_t begin, int64_t end, int) {
    for (int64_t first = begin; first < end; first += block)
      for (int64_t f = 0; f < width; ++f)
        for (int64_t i = first; i < std::min(first + block, end); ++i) rows[i * width + f] = columns[f * n + i];
  });
  return rows;
}

}  // namespace

void HashGridPoints::encode(const float* unit, int64_t n, float* out) const {
  HashGridJob job = grid_;
  job.points = n;
  job.x = unit;
  const int64_t used = static_cast<int64_t>(job.level_count) * job.features;
  std::fill_n(out + used * n, (width_ - used) * n, 0.f);
  hash_grid().forward(job, table_, out);
}

void HashGridPoints::add_gradients(const float* unit, int64_t n, const float* upstream) const {
  HashGridJob job = grid_;
  job.points = n;
  job.x = unit;
  hash_grid().scatter(job, {upstream, n, 1}, gradient_, touched_);
}

int64_t FrequencyPoints::width() const { return FrequencyShape{3, octaves_, include_input_}.width(); }

void FrequencyPoints::encode(const float* unit, int64_t n, float* out) const {
  const FrequencyShape shape = {3, octaves_, include_input_};
  const int64_t width = shape.width();
  struct alignas(64) Line {
    float lanes[16];
  };
  as_columns(n, width, out, [&](int64_t first, int64_t some, float* rows) {
    thread_local std::vector<Line> scratch;
    scratch.resize(width + shape.dim);
    frequency().forward(unit + 3 * first, rows, 0, some, shape, scratch.data()->lanes);
  });
}

void FactorGridPoints::encode(const float* unit, int64_t n, float* out) const {
  as_columns(n, width(), out, [&](int64_t first, int64_t some, float* rows) {
    FactorGridJob job = grids_;
    job.x = unit + 3 * first;
    factor_grid().forward(job, rows, 0, some);
  });
}

void FactorGridPoints::add_gradients(const float* unit, int64_t n, const float* upstream) const {
  const float* rows = as_rows(n, width(), upstream);
  FactorGridJob job = grids_;
  job.x = unit;
  parallel_tasks(job.factor_count, [&](int64_t factor, int) {
    factor_grid().scatter(job, static_cast<int>(factor), rows, n, gradient_, touched_);
  });
}

void SparseGridPoints::encode(const float* unit, int64_t n, float* out) const {
  as_columns(n, width(), out, [&](int64_t first, int64_t some, float* rows) {
    sparse_grid().forward(grid_, unit + 3 * first, rows, 0, some);
  });
}

void SparseGridPoints::add_gradients(const float* unit, int64_t n, const float* upstream) const {
  sparse_grid_scatter(grid_, unit, n, as_rows(n, width(), upstream), gradient_, touched_);
}

void RbfPoints::encode(const float* unit, int64_t n, float* out) const {
  as_columns(n, width(), out, [&](int64_t first, int64_t some, float* rows) {
    thread_local std::vector<int32_t> memory;
    int32_t* ids = room(memory, block * bases_.neighbours);
    RbfJob job = bases_;
    job.x = unit + 3 * first;
    job.ids = ids;
    rbf_neighbours().nearest(*index_, job.x, ids, 0, some);
    rbf().forward(job, rows, 0, some);
  });
}

void RbfPoints::add_gradients(const float* unit, int64_t n, const float* upstream) const {
  thread_local std::vector<int32_t> memory;
  int32_t* ids = room(memory, n * bases_.neighbours);
  parallel_for(n, block, [&](int64_t begin, int64_t end, int) {
    rbf_neighbours().nearest(*index_, unit, ids, begin, end);
  });
  RbfJob job = bases_;
  job.x = unit;
  job.ids = ids;
  rbf_scatter(job, n, as_rows(n, width(), upstream), gradient_, touched_);
}

void JoinedPoints::encode(const float* unit, int64_t n, float* out) const {
  first_.encode(unit, n, out);
  second_.encode(unit, n, out + first_.width() * n);
}

void JoinedPoints::add_gradients(const float* unit, int64_t n, const float* upstream) const {
  first_.add_gradients(unit, n, upstream);
  second_.add_gradients(unit, n, upstream + first_.width() * n);
}

}  // namespace polyfield
