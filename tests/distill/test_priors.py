"""Every prior's KL against quadrature and its written gradient against finite differences."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import dawsn
from scipy.stats import norm, truncnorm

from distill.errors import DistillError
from distill.priors import log_alpha, prior
from distill.priors.scale_free import _dawson_ratio

SCALES = {"gaussian": 0.3, "uniform-truncated": 0.7}
NAMES = [
    "log-uniform",
    "log-uniform-exact",
    "ard",
    "group-ard",
    "gaussian",
    "laplace",
    "uniform-truncated",
    "uniform-flat",
]
CASES = [(name, SCALES.get(name)) for name in NAMES] + [("laplace", 0.2)]


def one(value: float) -> torch.Tensor:
    return torch.tensor([[value]], dtype=torch.float64)


def kl_by_quadrature(mean: float, sigma: float, log_density) -> float:
    """Integral of q (log q - log p) over ten standard deviations, split where p may have a kink."""
    q = norm(mean, sigma)
    edges = sorted({mean - 10 * sigma, mean + 10 * sigma, *([0.0] if abs(mean) < 10 * sigma else [])})
    return sum(
        quad(lambda w: q.pdf(w) * (q.logpdf(w) - log_density(w)), low, high, epsabs=1e-11, limit=200)[0]
        for low, high in itertools.pairwise(edges)
    )


POINTS = [(0.3, 0.05), (-0.4, 0.4), (0.02, 0.3), (0.0, 0.1), (1.5, 0.2)]


@pytest.mark.parametrize(("mean", "sigma"), POINTS)
def test_gaussian_is_quadrature(mean: float, sigma: float) -> None:
    expected = kl_by_quadrature(mean, sigma, lambda w: norm.logpdf(w, 0, 0.3))
    assert float(prior("gaussian", 0.3).value(one(mean), one(math.log(sigma)))) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(("mean", "sigma"), POINTS)
def test_laplace_is_quadrature(mean: float, sigma: float) -> None:
    expected = kl_by_quadrature(mean, sigma, lambda w: -abs(w) / 0.2 - math.log(0.4))
    assert float(prior("laplace", 0.2).value(one(mean), one(math.log(sigma)))) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(("mean", "sigma"), [(0.3, 0.05), (-0.4, 0.4), (0.02, 0.3), (1.5, 0.2)])
def test_scale_free_laplace_and_ard_are_the_best_scale(mean: float, sigma: float) -> None:
    size = sum(
        quad(lambda w: abs(w) * norm.pdf(w, mean, sigma), low, high, epsabs=1e-12)[0]
        for low, high in ((mean - 10 * sigma, 0.0), (0.0, mean + 10 * sigma))
    )
    laplace = kl_by_quadrature(mean, sigma, lambda w: -abs(w) / size - math.log(2 * size))
    ard = kl_by_quadrature(mean, sigma, lambda w: norm.logpdf(w, 0, math.hypot(mean, sigma)))
    assert float(prior("laplace").value(one(mean), one(math.log(sigma)))) == pytest.approx(laplace, abs=1e-7)
    assert float(prior("ard").value(one(mean), one(math.log(sigma)))) == pytest.approx(ard, abs=1e-7)


def test_group_ard_is_gaussian_with_one_scale_a_unit() -> None:
    mean, sigma = np.array([[0.3, -0.1, 0.02], [1.0, 0.5, 0.0]]), np.array([[0.1, 0.2, 0.3], [0.05, 0.4, 0.1]])
    expected = 0.0
    for row_mean, row_sigma in zip(mean, sigma, strict=True):
        scale = math.sqrt(np.mean(row_mean**2 + row_sigma**2))
        for m, s in zip(row_mean, row_sigma, strict=True):
            expected += kl_by_quadrature(m, s, lambda w, scale=scale: norm.logpdf(w, 0, scale))
    assert prior("group-ard").grouped
    value = prior("group-ard").value(torch.tensor(mean), torch.log(torch.tensor(sigma)))
    assert float(value) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(("mean", "sigma"), [*POINTS, (0.69, 0.001), (0.1, 5.0), (-0.9, 0.05), (2.0, 0.01)])
def test_truncated_uniform_is_quadrature(mean: float, sigma: float) -> None:
    bound = 0.7
    q = truncnorm((-bound - mean) / sigma, (bound - mean) / sigma, mean, sigma)
    low, high = (float(edge) for edge in q.ppf([1e-13, 1 - 1e-13]))
    expected = quad(lambda w: q.pdf(w) * (q.logpdf(w) + math.log(2 * bound)), low, high, epsabs=1e-10, limit=400)[0]
    value = float(prior("uniform-truncated", bound).value(one(mean), one(math.log(sigma))))
    assert value == pytest.approx(expected, abs=1e-5)


def test_truncated_normal_far_outside_joins_its_limit() -> None:
    kl = prior("uniform-truncated", 0.5)
    mean = one(0.5 + 0.201)
    near, far = (kl.value(mean, torch.log(one(sigma))) for sigma in (0.201 / 199.9, 0.201 / 200.1))
    assert float(far - near) == pytest.approx(2 * math.log(200.1 / 199.9), abs=1e-4)
    gradients = [kl.gradient(mean, torch.log(one(sigma))) for sigma in (0.201 / 199.9, 0.201 / 200.1)]
    for inside, outside in zip(*gradients, strict=True):
        assert float(inside) == pytest.approx(float(outside), rel=1e-3)


def test_flat_uniform_is_minus_the_entropy_up_to_a_constant() -> None:
    kl = prior("uniform-flat")
    difference = kl.value(one(0.4), one(math.log(0.2))) - kl.value(one(-3.0), one(math.log(0.7)))
    expected = kl_by_quadrature(0.4, 0.2, lambda w: 0.0) - kl_by_quadrature(-3.0, 0.7, lambda w: 0.0)
    assert float(difference) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("value", np.linspace(-7.9, 7.9, 21))
def test_log_uniform_fit_and_exact_follow_the_integral(value: float) -> None:
    exact = 2.0 * float(quad(dawsn, 0.0, math.sqrt(0.5 / math.exp(value)), epsabs=1e-12)[0])
    mean = one(0.3)
    log_sigma = 0.5 * (value + torch.log(mean * mean))
    assert float(prior("log-uniform").value(mean, log_sigma)) == pytest.approx(exact, abs=0.0095)
    assert float(prior("log-uniform-exact").value(mean, log_sigma)) == pytest.approx(exact, rel=3e-6)


def test_dawson_ratio_keeps_its_stated_accuracy_in_float32() -> None:
    square = np.geomspace(6e-5, 2e5, 5000)
    expected = dawsn(np.sqrt(square)) / np.sqrt(square)
    ours = _dawson_ratio(torch.tensor(square, dtype=torch.float32)).numpy()
    assert np.max(np.abs(ours / expected - 1)) < 1.6e-6


@pytest.mark.parametrize(("name", "scale"), CASES)
def test_gradient_matches_finite_differences(name: str, scale: float | None) -> None:
    kl = prior(name, scale)
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    log_sigma = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    step = 1e-5
    for index, written in enumerate(kl.gradient(mean, log_sigma)):
        for place in range(12):
            values = []
            for sign in (1, -1):
                moved = [mean.clone(), log_sigma.clone()]
                moved[index].view(-1)[place] += sign * step
                values.append(float(kl.value(*moved)))
            slope = (values[0] - values[1]) / (2 * step)
            assert float(written.view(-1)[place]) == pytest.approx(slope, rel=5e-6, abs=2e-7)


@pytest.mark.parametrize(("name", "scale"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extremes_stay_finite(name: str, scale: float | None, dtype: torch.dtype) -> None:
    means = [0.0, 0.0, 1e-20, -1e-20, 1.0, -1.0, 1e3, 0.3, 0.3, 0.3, 0.0]
    log_sigmas = [0.0, -40.0, -10.0, 10.0, -30.0, 10.0, -5.0, -11.2, 8.8, -20.0, 20.0]  # log alpha +-20 among them
    mean, log_sigma = torch.tensor([means], dtype=dtype), torch.tensor([log_sigmas], dtype=dtype)
    kl = prior(name, scale)
    assert torch.isfinite(kl.value(mean, log_sigma))
    for written in kl.gradient(mean, log_sigma):
        assert written.dtype == dtype
        assert torch.isfinite(written).all()


@pytest.mark.parametrize("name", ["log-uniform", "log-uniform-exact", "ard", "laplace"])
def test_scale_free_priors_push_no_weight_beyond_the_clip(name: str) -> None:
    by_mean, by_log_sigma = prior(name, clipped=True).gradient(torch.tensor([0.0, 1.0]), torch.tensor([0.0, -9.0]))
    assert by_mean.abs().tolist() == [0.0, 0.0]
    assert by_log_sigma.abs().tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", ["log-uniform", "log-uniform-exact", "ard", "laplace"])
def test_large_weights_with_little_noise_still_feel_the_prior(name: str) -> None:
    """He's initial weights start beyond log alpha = -8; a prior without a slope there could never prune them."""
    kl = prior(name)
    mean = torch.tensor([0.4, 1.0], dtype=torch.float64, requires_grad=True)
    log_sigma = torch.tensor([-6.0, -9.0], dtype=torch.float64, requires_grad=True)
    written = kl.gradient(mean.detach(), log_sigma.detach())
    assert torch.allclose(written[1], torch.tensor([-1.0, -1.0], dtype=torch.float64))
    expected = torch.autograd.grad(kl.value(mean, log_sigma), (mean, log_sigma))
    for ours, theirs in zip(written, expected, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-6)
    beyond = prior(name).gradient(torch.tensor([0.0]), torch.tensor([0.0]))
    assert [float(part.abs()) for part in beyond] == [0.0, 0.0], "a weight that is as good as gone is left alone"


def test_log_alpha_survives_zero_means() -> None:
    mean = torch.tensor([0.0, 1e-20, 1.0, 1.0])
    log_sigma = torch.tensor([0.0, 0.0, -50.0, 0.0])
    assert torch.isfinite(log_alpha(mean, log_sigma)).all()
    assert log_alpha(mean, log_sigma)[2:].tolist() == [-100.0, 0.0]


def test_log_uniform_falls_as_noise_grows() -> None:
    values = [float(prior("log-uniform").value(one(1.0), one(s))) for s in (-4.0, -2.0, 0.0, 2.0, 3.9)]
    assert values == sorted(values, reverse=True)


def test_refusals_name_the_valid_ones() -> None:
    with pytest.raises(DistillError, match="got 'cauchy', expected one of log-uniform, log-uniform-exact, ard, group"):
        prior("cauchy")
    with pytest.raises(DistillError, match="prior gaussian: got no scale"):
        prior("gaussian")
    with pytest.raises(DistillError, match=r"prior ard: got scale 0.1, but it has none"):
        prior("ard", 0.1)
    for scale in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(DistillError, match="expected a positive finite number"):
            prior("laplace", scale)
