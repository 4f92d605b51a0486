"""The log-uniform KL against quadrature and finite differences."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import dawsn

from distill.priors import log_alpha, log_uniform_kl, log_uniform_kl_gradient


def exact_kl(alpha: float) -> float:
    """KL = 2 * integral of Dawson's function from 0 to sqrt(1 / (2 alpha)); zero at alpha = infinity."""
    return 2.0 * float(quad(dawsn, 0.0, np.sqrt(0.5 / alpha))[0])


@pytest.mark.parametrize("value", np.linspace(-7.9, 7.9, 21))
def test_fit_follows_the_exact_kl(value: float) -> None:
    mean = torch.tensor([[0.3]], dtype=torch.float64)
    log_sigma = 0.5 * (value + torch.log(mean * mean))
    fitted = float(log_uniform_kl(mean, log_sigma))
    assert fitted == pytest.approx(exact_kl(np.exp(value)), abs=0.0095)


def test_gradient_matches_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    log_sigma = torch.randn(3, 4, generator=generator, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(log_uniform_kl, (mean, log_sigma), eps=1e-6, atol=1e-6)
    expected = torch.autograd.grad(log_uniform_kl(mean, log_sigma), (mean, log_sigma))
    written = log_uniform_kl_gradient(mean.detach(), log_sigma.detach())
    assert torch.allclose(written[0], expected[0], rtol=1e-9)
    assert torch.allclose(written[1], expected[1], rtol=1e-9)


def test_written_gradient_is_zero_where_log_alpha_is_clipped() -> None:
    by_mean, by_log_sigma = log_uniform_kl_gradient(torch.tensor([0.0, 1.0]), torch.tensor([0.0, -9.0]))
    assert by_mean.tolist() == [0.0, 0.0]
    assert by_log_sigma.tolist() == [0.0, 0.0]


def test_log_alpha_is_clipped_and_survives_zero_means() -> None:
    mean = torch.tensor([0.0, 1e-20, 1.0, 1.0])
    log_sigma = torch.tensor([0.0, 0.0, -50.0, 0.0])
    assert log_alpha(mean, log_sigma).tolist() == [8.0, 8.0, -8.0, 0.0]


def test_kl_falls_as_noise_grows() -> None:
    mean = torch.ones(1, 1)
    values = [float(log_uniform_kl(mean, torch.full((1, 1), s))) for s in (-4.0, -2.0, 0.0, 2.0, 3.9)]
    assert values == sorted(values, reverse=True)
