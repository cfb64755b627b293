#include "kernels/plane_fit.h"

namespace polyfield {
namespace POLYFIELD_ISA {
namespace {

// Of samples whose feet lie no farther outside the cell than this, in sides, tried one after the other: far planes
// belong to another sheet, or to what is behind a corner.
constexpr double reaches[] = {1e300, 0.0, 0.1, 0.25};
constexpr int fewest = 3;  // planes

// How far a point lies outside a cell along the axis where it is farthest out.
double outside(const double* at, const double* low, double side) {
  double far = 0;
  for (int a = 0; a < 3; ++a) {
    const double under = low[a] - at[a], over = at[a] - (low[a] + side);
    far = under > far ? under : far;
    far = over > far ? over : far;
  }
  return far;
}

struct Matrix {
  double at[3][3];
};

// Eigenvalues and -vectors (columns) of a symmetric matrix, the largest first: Jacobi's turns, in their order.
void eigen(Matrix m, double* values, Matrix& vectors) {
  vectors = {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}};
  constexpr int pairs[3][2] = {{0, 1}, {0, 2}, {1, 2}};
  for (int sweep = 0; sweep < 12; ++sweep) {
    const double off = m.at[0][1] * m.at[0][1] + m.at[0][2] * m.at[0][2] + m.at[1][2] * m.at[1][2];
    const double on = m.at[0][0] * m.at[0][0] + m.at[1][1] * m.at[1][1] + m.at[2][2] * m.at[2][2];
    if (off <= 1e-30 * on) break;
    for (const auto& pair : pairs) {
      const int p = pair[0], q = pair[1];
      if (m.at[p][q] == 0) continue;
      const double theta = (m.at[q][q] - m.at[p][p]) / (2 * m.at[p][q]);
      const double size = theta < 0 ? -theta : theta;
      const double t = (theta < 0 ? -1 : 1) / (size + __builtin_sqrt(size * size + 1));
      const double c = 1 / __builtin_sqrt(t * t + 1), s = t * c;
      for (int k = 0; k < 3; ++k) {
        const double a = m.at[k][p], b = m.at[k][q];
        m.at[k][p] = c * a - s * b, m.at[k][q] = s * a + c * b;
      }
      for (int k = 0; k < 3; ++k) {
        const double a = m.at[p][k], b = m.at[q][k];
        m.at[p][k] = c * a - s * b, m.at[q][k] = s * a + c * b;
      }
      for (int k = 0; k < 3; ++k) {
        const double a = vectors.at[k][p], b = vectors.at[k][q];
        vectors.at[k][p] = c * a - s * b, vectors.at[k][q] = s * a + c * b;
      }
    }
  }
  for (int a = 0; a < 3; ++a) values[a] = m.at[a][a];
  for (int a = 0; a < 2; ++a)
    for (int b = 0; b < 2 - a; ++b) {
      if (values[b] >= values[b + 1]) continue;
      const double kept = values[b];
      values[b] = values[b + 1], values[b + 1] = kept;
      for (int k = 0; k < 3; ++k) {
        const double column = vectors.at[k][b];
        vectors.at[k][b] = vectors.at[k][b + 1], vectors.at[k][b + 1] = column;
      }
    }
}

struct Fitted {
  double at[3], direction[3];
  int rank;  // 0: too few planes
};

// The point nearest to the origin of those that fit the planes best, along the directions that these tell.
Fitted solve(const PlaneFitSetup& setup, int64_t cell, double reach) {
  const int64_t* samples = setup.samples + cell * setup.per_cell;
  const double *low = setup.low + 3 * cell, *origin = setup.origin + 3 * cell;
  Matrix m = {};
  double right[3] = {};
  int count = 0;
  for (int64_t k = 0; k < setup.per_cell; ++k) {
    const int64_t s = samples[k];
    if (!setup.used[s]) continue;
    const double *foot = setup.feet + 3 * s, *normal = setup.normals + 3 * s;
    if (outside(foot, low, setup.side) > (reach + 1e-4) * setup.side) continue;
    double away = 0;
    for (int a = 0; a < 3; ++a) away += normal[a] * (foot[a] - origin[a]);
    for (int a = 0; a < 3; ++a) {
      right[a] += away * normal[a];
      for (int b = 0; b < 3; ++b) m.at[a][b] += normal[a] * normal[b];
    }
    ++count;
  }
  Fitted found = {{origin[0], origin[1], origin[2]}, {0, 0, 0}, 0};
  if (count < fewest) return found;
  double values[3];
  Matrix vectors;
  eigen(m, values, vectors);
  for (int k = 0; k < 3 && values[k] > setup.keep * setup.keep * values[0]; ++k, ++found.rank) {
    double along = 0;
    for (int a = 0; a < 3; ++a) along += vectors.at[a][k] * right[a];
    for (int a = 0; a < 3; ++a) found.at[a] += along / values[k] * vectors.at[a][k];
  }
  if (found.rank == 1 || found.rank == 2)
    for (int a = 0; a < 3; ++a) found.direction[a] = vectors.at[a][found.rank == 1 ? 0 : 2];
  return found;
}

void fit(const PlaneFitSetup& setup, int64_t begin, int64_t end, double* point, uint8_t* rank, double* direction) {
  for (int64_t cell = begin; cell < end; ++cell) {
    Fitted best = {{0, 0, 0}, {0, 0, 0}, 0};
    for (const double reach : reaches) {
      best = solve(setup, cell, reach);
      if (best.rank == 0) continue;
      if (outside(best.at, setup.low + 3 * cell, setup.side) <= setup.beyond[best.rank] * setup.side) break;
      best.rank = 0;
    }
    rank[cell] = (uint8_t)best.rank;
    for (int a = 0; a < 3; ++a) {
      point[3 * cell + a] = best.rank ? best.at[a] : setup.origin[3 * cell + a];
      direction[3 * cell + a] = best.rank ? best.direction[a] : 0;
    }
  }
}

}  // namespace

extern const PlaneFitKernels plane_fit = {fit};

}  // namespace POLYFIELD_ISA
}  // namespace polyfield
