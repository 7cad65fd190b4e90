/* Expected log-likelihoods of an observation y, with f ~ N(mean, variance).

       GAUSSIAN     y ~ N(f, parameters[0])                 in closed form
       STUDENT_T    y = f + parameters[0] t, t with parameters[1] degrees of freedom
       BERNOULLI    P(y = 1) = 1 / (1 + exp(-f))            y is 0 or 1

   Student's t by log a = int (e^-t - e^(-a t)) / t dt, under which f is integrated in closed form:
   what is left is smooth in log t however wide f is, and a sum over nodes t of a geometric sequence
   that falls, weights e^-t times the step of log t. Bernoulli by Gauss-Hermite quadrature, which is
   exact to 1e-6 up to a deviation of f of 3. Derivatives are those of the sums.
*/

#include <math.h>

enum { GAUSSIAN, STUDENT_T, BERNOULLI };

static const double LOG_2_PI = 1.8378770664093454836;

/* log P(y | f), and its derivative by f. */
static inline double log_bernoulli(double y, double f, double *by_f)
{
    const double t = y > 0.5 ? f : -f, small = exp(-fabs(t));
    const double against = t > 0 ? small / (1 + small) : 1 / (1 + small);
    *by_f = y > 0.5 ? against : -against;
    return (t > 0 ? 0 : t) - log1p(small);
}

/* E log(1 + (y - f)^2 / c), and its derivatives by y - mean, variance and c. */
static double expected_log_square(int n_nodes, const double *nodes, const double *weights, double e,
                                  double variance, double c, double *by_e, double *by_variance,
                                  double *by_c)
{
    const double a = (e * e + variance) / c, ratio = nodes[1] / nodes[0];
    double sum = 0, first = 0, second = 0, third = 0;
    int i = 0;
    for (; i < n_nodes && (nodes[i] > 1e-5 || nodes[i] * a > 1e-5); i++) {
        const double t = nodes[i], d = 1 / (c + 2 * t * variance);
        const double g = t * e * e * d, q = weights[i] * sqrt(c * d) * exp(-g);
        sum += weights[i] - q;
        first += q * 2 * t * e * d;
        second += q * t * d * (1 - 2 * g);
        third += q * (0.5 * d - 0.5 / c - g * d);
    }
    /* the rest, where the integrand is a t: a geometric series */
    const double rest = i < n_nodes ? -log(ratio) * nodes[i] / (1 - ratio) / c : 0;
    *by_e = first + rest * 2 * e;
    *by_variance = second + rest;
    *by_c = third - rest * a;
    return sum + rest * a * c;
}

/* E log p(y | f), and its derivatives by mean, variance and parameters[0]. */
static double expected_log_density(int kind, const double *parameters, int n_nodes,
                                   const double *nodes, const double *weights, double y,
                                   double mean, double variance, double *by_mean,
                                   double *by_variance, double *by_parameter)
{
    const double s = parameters[0], e = y - mean;
    if (kind == GAUSSIAN) {
        const double square = e * e + variance;
        *by_mean = e / s;
        *by_variance = -0.5 / s;
        *by_parameter = 0.5 * (square / s - 1) / s;
        return -0.5 * (LOG_2_PI + log(s) + square / s);
    }
    if (kind == STUDENT_T) {
        const double nu = parameters[1], power = (nu + 1) / 2;
        double by_e, by_c;
        const double square = expected_log_square(n_nodes, nodes, weights, e, variance, nu * s * s,
                                                  &by_e, by_variance, &by_c);
        *by_mean = power * by_e;
        *by_variance *= -power;
        *by_parameter = -power * by_c * 2 * nu * s - 1 / s;
        return lgamma(power) - lgamma(nu / 2) - 0.5 * log(nu * M_PI) - log(s) - power * square;
    }
    const double deviation = sqrt(variance);
    double sum = 0, first = 0, second = 0;
    for (int i = 0; i < n_nodes; i++) {
        double by_f;
        sum += weights[i] * log_bernoulli(y, mean + deviation * nodes[i], &by_f);
        first += weights[i] * by_f;
        second += weights[i] * by_f * nodes[i];
    }
    *by_mean = first;
    *by_variance = deviation > 0 ? second / (2 * deviation) : 0;
    *by_parameter = 0;
    return sum;
}
