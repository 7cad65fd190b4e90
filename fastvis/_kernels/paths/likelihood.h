/* Expected log-likelihoods of an observation y, with f ~ N(mean, variance).

       GAUSSIAN     y ~ N(f, parameters[0])                 in closed form
       STUDENT_T    y = f + parameters[0] t, t with parameters[1] degrees of freedom
       BERNOULLI    P(y = 1) = 1 / (1 + exp(-f))            y is 0 or 1

   The last two by Gauss-Hermite quadrature; derivatives are those of the sum.
*/

#include <math.h>

enum { GAUSSIAN, STUDENT_T, BERNOULLI };
enum { N_LIKELIHOOD_PARAMETERS = 2 };

static const double LOG_2_PI = 1.8378770664093454836;

/* log p(y | f); its derivatives by f and by parameters[0]. */
static inline double log_density(int kind, const double *parameters, double y, double f,
                                 double constant, double *by_f, double *by_parameter)
{
    if (kind == STUDENT_T) {
        const double s = parameters[0], nu = parameters[1], e = y - f, square = nu * s * s + e * e;
        *by_f = (nu + 1) * e / square;
        *by_parameter = ((nu + 1) * e * e / square - 1) / s;
        return constant - (nu + 1) / 2 * log1p(e * e / (nu * s * s));
    }
    const double t = y > 0.5 ? f : -f, small = exp(-fabs(t));
    const double against = t > 0 ? small / (1 + small) : 1 / (1 + small);
    *by_f = y > 0.5 ? against : -against;
    *by_parameter = 0;
    return (t > 0 ? 0 : t) - log1p(small);
}

/* E log p(y | f), and its derivatives by mean, variance and parameters[0]. */
static double expected_log_density(int kind, const double *parameters, int n_nodes,
                                   const double *nodes, const double *weights, double y,
                                   double mean, double variance, double *by_mean,
                                   double *by_variance, double *by_parameter)
{
    if (kind == GAUSSIAN) {
        const double s = parameters[0], e = y - mean, square = e * e + variance;
        *by_mean = e / s;
        *by_variance = -0.5 / s;
        *by_parameter = 0.5 * (square / s - 1) / s;
        return -0.5 * (LOG_2_PI + log(s) + square / s);
    }
    const double deviation = sqrt(variance);
    double constant = 0, sum = 0, first = 0, second = 0, third = 0;
    if (kind == STUDENT_T) {
        const double nu = parameters[1];
        constant = lgamma((nu + 1) / 2) - lgamma(nu / 2) - 0.5 * log(nu * M_PI) -
                   log(parameters[0]);
    }
    for (int i = 0; i < n_nodes; i++) {
        double by_f, by_p;
        sum += weights[i] * log_density(kind, parameters, y, mean + deviation * nodes[i], constant,
                                        &by_f, &by_p);
        first += weights[i] * by_f;
        second += weights[i] * by_f * nodes[i];
        third += weights[i] * by_p;
    }
    *by_mean = first;
    *by_variance = second / (2 * deviation);
    *by_parameter = third;
    return sum;
}
