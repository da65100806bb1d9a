"""berner2024dis - DIS: learn the control that reverses a noising diffusion, from an unnormalised density, without data.

Berner, Richter, Ullrich, "An optimal control perspective on diffusion-based generative modeling", TMLR 2024,
arXiv:2211.01364; log-variance loss: Richter, Berner, ICLR 2024, arXiv:2307.01198.
Official code: juliusberner/sde_sampler (MIT).
Path        Noising dY = f Y dt + g dW, f = alpha'/alpha, g^2 = (sigma^2)' - 2 f sigma^2, from p = rho / Z; on vp-10
            g^2 = beta, linear from .1 to 10 (vp_20: to 20). Larger t is more noise: the paper's time is t_max - t.
            DIS: base drift -f x, start N(0, prior_std^2), optimum u* = g grad log p_t.
            PIS, DDS: base is the noising of a reference N(0, std^2), reversed in time; u* = g grad log(p_t / p_t of the
            reference). On brownian-bridge it is Brownian motion from 0 (PIS), on vp-10 the stationary OU process (DDS).
Loss        W = log p_prior(x_T) + sum [ |u|^2 dt/2 + u.z sqrt(dt) + d int f dt ] - log rho(x_0) on a controlled path.
            KL: mean of sum |u|^2 dt/2 - log rho, gradient through the path (kl_ito keeps u.z sqrt(dt)). Log-variance:
            variance of W on detached paths, increments u.(v - u/2) dt + u.z sqrt(dt), v = u detached.  [2307.01198]
            PIS, DDS: log N(x_0; 0, std^2) stands for log p_prior(x_T) and the divergence.
Step        DIS: x_s = (1 - f dt) x_t + g dt u + g sqrt(dt) z, dt = t - s, coefficients at t.
            PIS, DDS: x_s = m x_t + k (z + (k/g) u), where N(m x_t, k^2) is the exact kernel of the reference from t to
            s; k/g stands for sqrt(dt) in W. On brownian-bridge k^2 = dt: Euler's step.
            log_weight = -W. dis_unbiased: W sums log N(x_s; generative kernel) - log N(x_t; a x_s, tau^2) instead, the
            latter the exact noising kernel from s to t.                              [derived; not in the paper]
Cost        NFE = steps (a parametrised control also takes a gradient of log rho in each). Stochastic, weak order 1.
Exact when  dis_unbiased, pis, dds: E[exp(log_weight)] = Z for every control and grid; dis only to first order in dt.
            PIS, DDS: u = 0 on rho = Z N(0, std^2) gives log_weight = log Z on every path. Rotating target and noise
            rotates samples. Adding c to log rho adds c to log_weight. Gradient of log-variance = 2 x gradient of KL.
            The variance of W at u* falls linearly in dt to Var log(p_prior / p_T) under the prior.
Differs     Official PIS runs T = 5, sigma^2 = .2: our u is sqrt(5) times theirs. Official DDS: its control is u/g, its
            k^2 is dt clipped at 1, on a cosine^4 grid of steps + 1 increments: `process.discrete(cosine_betas(..))`
            with every knot a step; on any other path k^2 = 1 - (alpha_t/alpha_s)^2. Its tuned configurations sample a
            truncated prior and score it as untruncated: left out. c(t) is here a channel of the net, so may depend on
            x. The official KL takes a score computed by autograd as constant in x (create_graph=False): here its
            gradient is exact. Dropping W >= 1e8, EMA and the clipping of gradients belong to the trainer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple

import torch
from torch import Tensor

from reference_impls.core import grids
from reference_impls.core.drive import drive
from reference_impls.core.process import Process
from reference_impls.core.types import Draws, Model, Objective, Paper, Predictor, Run, Sampler, Time, expand

LogDensity = Callable[[Tensor], Tensor]  # x [B,*D] -> log rho [B], nats


class Plan(NamedTuple):
    t: Tensor
    keep: Tensor  # x_s = keep x_t + kick (z + push u)
    kick: Tensor
    push: Tensor
    back: Tensor  # noising kernel from s to t: N(back x_s, spread^2); -log back is the exact integral of -f
    spread: Tensor


def drift_and_diffusion(t: Tensor, process: Process) -> tuple[Tensor, Tensor]:
    """f and g of dY = f Y dt + g dW with the marginals alpha x0 + sigma eps; f is -inf where alpha = 0."""
    alpha_rate, sigma_rate = process.rates(t)
    f, sigma = alpha_rate / process.alpha(t), process.sigma(t)
    return f, (2 * sigma * (sigma_rate - f * sigma)).sqrt()


def _noising(grid: Tensor, process: Process) -> tuple[Tensor, ...]:
    """t, s, f and g at t, and the kernel N(back x_s, spread^2) of x_t given x_s."""
    t, s = grids.checked(grid)[:-1], grid[1:]
    if process.alpha(t[0].item()) <= 0:
        raise grids.BadGrid(
            f"grid: starts at {t[0].item():g}, where {process.name} has alpha = 0 and an infinite drift; "
            "use process.between(t_min, .999)"
        )
    back = process.alpha(t) / process.alpha(s)
    return t, s, *drift_and_diffusion(t, process), back, (process.sigma(t) ** 2 - (back * process.sigma(s)) ** 2).sqrt()


def euler_plan(grid: Tensor, process: Process) -> Plan:
    """DIS: Euler-Maruyama steps of the reversed noising drift plus g u."""
    t, s, f, g, back, spread = _noising(grid, process)
    root = (t - s).sqrt()
    return Plan(t, 1 - f * (t - s), g * root, root, back, spread)


def reference_plan(grid: Tensor, process: Process, *, std: float = 1.0) -> Plan:
    """PIS and DDS: exact reversed kernel of the noising process started from N(0, std^2), shifted by (k^2/g) u."""
    t, s, _, g, back, spread = _noising(grid, process)
    variance_t, variance_s = ((process.alpha(r) * std) ** 2 + process.sigma(r) ** 2 for r in (t, s))
    kick = spread * (variance_s / variance_t).sqrt()
    return Plan(t, back * variance_s / variance_t, kick, kick / g, back, spread)


def reference_end(grid: Tensor, process: Process, std: float) -> float:
    """Standard deviation of the noised reference at the grid's last time: std itself at t = 0."""
    s = grid[-1].item()
    return math.hypot(process.alpha(s) * std, process.sigma(s))


class Path(NamedTuple):
    """Two sums along the path, [B] each: u.(v - u/2) dt, which is |u|^2 dt/2 in value, and the Ito sum u.z sqrt(dt)."""

    cost: Tensor
    ito: Tensor


def inner(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1)


def attached(u: Tensor) -> Tensor:
    """The control that moves the path is the control itself: gradients run through the path."""
    return u


def step(
    x: Tensor, row: Plan, path: Path, *, model: Model, draws: Draws, follow: Callable[[Tensor], Tensor] = attached
) -> tuple[Tensor, Path]:
    """One interval of the path driven by v = follow(u) and of both sums."""
    u = model(x, row.t)
    v, z = follow(u), draws.normal("step", x)
    path = Path(path.cost + row.push**2 * inner(u, v - u / 2), path.ito + row.push * inner(u, z))
    return row.keep * x + row.kick * (z + row.push * v), path


def ratio_step(x: Tensor, row: Plan, ratio: Tensor, *, model: Model, draws: Draws) -> tuple[Tensor, Tensor]:
    """The same path; ratio [B] sums log N(x_s; generative kernel) - log N(x_t; noising kernel)."""
    z = draws.normal("step", x)
    x_s = row.keep * x + row.kick * (z + row.push * model(x, row.t))
    missed = (x - row.back * x_s) / row.spread
    size = x.shape[1:].numel()
    return x_s, ratio + (inner(missed, missed) - inner(z, z)) / 2 + size * math.log(row.spread / row.kick)


def log_normal(x: Tensor, std: float) -> Tensor:
    """log N(x; 0, std^2 I), [B]."""
    return -inner(x, x) / (2 * std**2) - x.shape[1:].numel() / 2 * math.log(2 * math.pi * std**2)


def simulate(plan: Plan, model: Model, x: Tensor, draws: Draws, follow: Callable[[Tensor], Tensor] = attached) -> Run:
    """The controlled path from x [B,*D] with its Path as memory."""
    still = x.new_zeros(x.shape[0])
    walk = partial(step, follow=follow)
    return drive(plan, walk, model, x, draws=draws, consumes="control", memory=Path(still, still), tags=("step",))


def _start_cost(x: Tensor, plan: Plan, process: Process) -> Tensor:
    """log p_prior(x_T) less the divergence of the base drift, integrated exactly, [B]."""
    return log_normal(x, process.prior_std) + x.shape[1:].numel() * plan.back.log().sum().item()


def dis(model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, log_density: LogDensity) -> Run:
    """DIS as published: x [B,*D] from the prior; memory is the Path. The weights are unbiased only as dt -> 0."""
    plan = euler_plan(grid, process)
    run = simulate(plan, model, x, draws)
    work = _start_cost(x, plan, process) + run.memory.cost + run.memory.ito
    return run._replace(log_weight=log_density(run.x) - work)


def dis_unbiased(
    model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, log_density: LogDensity
) -> Run:
    """The paths of DIS, weighed by the ratio of their discrete kernels: unbiased for every control and every grid."""
    run = drive(
        euler_plan(grid, process), ratio_step, model, x, draws=draws, consumes="control",
        memory=x.new_zeros(x.shape[0]), tags=("step",),
    )  # fmt: skip
    return run._replace(log_weight=log_density(run.x) - log_normal(x, process.prior_std) - run.memory)


def reference(
    model: Model, x: Tensor, grid: Tensor, *, process: Process, draws: Draws, log_density: LogDensity, std: float = 1.0
) -> Run:
    """PIS or DDS, by the process; memory is the Path. std 1: sigma^2 T of PIS and sigma of DDS in the official code."""
    run = simulate(reference_plan(grid, process, std=std), model, x, draws)
    work = log_normal(run.x, reference_end(grid, process, std)) + run.memory.cost + run.memory.ito
    return run._replace(log_weight=log_density(run.x) - work)


def cosine_betas(steps: int = 128, end: float = 6.4, *, offset: float = 0.008) -> Tensor:
    """float64 [steps+1]: k^2 of DDS by increasing t, proportional to cos^4 and summing to `end`, clipped at 1.

    Defaults: the official basic_dds (129 increments; the tuned configuration is 256, 12.8). offset: its get_timesteps.
    """
    fraction = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    rates = (math.pi / 2 * (fraction + offset) / (1 + offset)).cos() ** 4
    return (rates / rates.sum() * end).clamp(max=1.0).flip(0)


@dataclass(frozen=True)
class Given:
    """Draws that are handed over: noise [steps,B,*D]."""

    noise: Tensor

    def block(self, steps: range, tag: str, like: Tensor) -> Tensor:
        return self.noise[steps.start : steps.stop]


def _given(noise: Tensor, x: Tensor, grid: Tensor) -> Given:
    expected = (grid.shape[0] - 1, *x.shape)
    if noise.shape != expected:
        raise ValueError(f"noise: shape is {tuple(noise.shape)}, expected {expected}, a draw per interval of the grid")
    return Given(noise)


def kl(model: Model, x: Tensor, grid: Tensor, noise: Tensor, *, process: Process, log_density: LogDensity) -> Tensor:
    """KL loss without its constants and without the Ito sum, [B]. x [B,*D] from the prior, noise [steps,B,*D]."""
    run = simulate(euler_plan(grid, process), model, x, _given(noise, x, grid))
    return run.memory.cost - log_density(run.x)


def kl_ito(
    model: Model, x: Tensor, grid: Tensor, noise: Tensor, *, process: Process, log_density: LogDensity
) -> Tensor:
    """The KL loss with the Ito sum, [B]: the same mean, less variance near the optimum."""
    run = simulate(euler_plan(grid, process), model, x, _given(noise, x, grid))
    return run.memory.cost + run.memory.ito - log_density(run.x)


def log_variance(
    model: Model, x: Tensor, grid: Tensor, noise: Tensor, *, process: Process, log_density: LogDensity
) -> Tensor:
    """W along detached paths, [B]; its variance is the loss (over paths that share x: the trajectory-wise variant)."""
    plan = euler_plan(grid, process)
    run = simulate(plan, model, x, _given(noise, x, grid), torch.Tensor.detach)
    return _start_cost(x, plan, process) + run.memory.cost + run.memory.ito - log_density(run.x)


def reference_kl(
    model: Model, x: Tensor, grid: Tensor, noise: Tensor, *, process: Process, log_density: LogDensity, std: float = 1.0
) -> Tensor:
    """KL loss of PIS and DDS without the Ito sum, [B]; std as in `reference`."""
    run = simulate(reference_plan(grid, process, std=std), model, x, _given(noise, x, grid))
    return run.memory.cost + log_normal(run.x, reference_end(grid, process, std)) - log_density(run.x)


def reference_log_variance(
    model: Model, x: Tensor, grid: Tensor, noise: Tensor, *, process: Process, log_density: LogDensity, std: float = 1.0
) -> Tensor:
    """W of PIS and DDS along detached paths, [B]; its variance is the loss."""
    run = simulate(reference_plan(grid, process, std=std), model, x, _given(noise, x, grid), torch.Tensor.detach)
    end = reference_end(grid, process, std)
    return run.memory.cost + run.memory.ito + log_normal(run.x, end) - log_density(run.x)


class LogZ(NamedTuple):
    """Estimates of log Z in nats and the effective sample size (sum w)^2 / sum w^2 in samples, all scalars."""

    bound_without_ito: Tensor
    bound: Tensor
    importance: Tensor
    effective: Tensor


def log_z(run: Run) -> LogZ:
    """Both lower bounds (they differ by the mean of the Ito sum) and the importance estimate of a run with a Path."""
    weights, ito = run.log_weight.double(), run.memory.ito.double()
    total = weights.logsumexp(0)
    effective = (2 * total - (2 * weights).logsumexp(0)).exp()
    return LogZ((weights + ito).mean(), weights.mean(), total - math.log(len(weights)), effective)


Net = Callable[[Tensor, Tensor], Tensor]  # (x [B,D], t [B]) -> [B,D+1]


def _net_and_scale(net: Net, x: Tensor, t: Time, clip: float) -> tuple[Tensor, Tensor]:
    """The net's control [B,D] and the change of c [B,1] that it asks for, both clipped."""
    rows = torch.as_tensor(t, dtype=x.dtype, device=x.device).expand(x.shape[0])
    raw, expected = net(x, rows).to(x.dtype), (x.shape[0], x.shape[1] + 1)
    if raw.shape != expected:
        raise ValueError(f"net: output is {tuple(raw.shape)}, expected {expected}: the control and one scale")
    return raw[:, :-1].clamp(-clip, clip), raw[:, -1:].clamp(-clip, clip)


def _diffusion(process: Process) -> Callable[[Time, Tensor], Time]:
    """(t, x) -> g(t), shaped over x for rows of times; the automatic differentiation is done once per float."""
    at = lru_cache(maxsize=None)(lambda t: drift_and_diffusion(torch.tensor(t, dtype=torch.float64), process)[1].item())
    return lambda t, x: expand(drift_and_diffusion(t, process)[1], x) if isinstance(t, Tensor) else at(t)


def interpolated_score(
    net: Net, *, process: Process, score: Callable[[Tensor], Tensor], clip: float = 1e4, scale: float = 1.0
) -> Predictor:
    """DIS: u = net + g c clip((1-w) prior score + w score of rho), w = (t_max-t)/(t_max-t_min), c = scale + net's last.

    net: (x [B,D], t [B]) -> [B,D+1], zero before training. score: x [B,D] -> grad log rho. clip 1e4 acts on each
    entry (basic_dis; tuned: 10); scale 1: c before training (conf/model/lerp.yaml).
    """
    diffusion = _diffusion(process)

    def predict(x: Tensor, t: Time) -> Tensor:
        control, change = _net_and_scale(net, x, t, clip)
        w = expand((process.t_max - t) / (process.t_max - process.t_min), x)
        mixed = w * score(x) - (1 - w) / process.prior_std**2 * x
        return control + diffusion(t, x) * (scale + change) * mixed.clamp(-clip, clip)

    return Predictor("control", predict)


def target_score(
    net: Net, *, process: Process, score: Callable[[Tensor], Tensor], clip: float = 1e4, scale: float = 0.01
) -> Predictor:
    """PIS and DDS: u = g (net + c clip(score of rho)), c = scale + net's last. scale .01: conf/model/score.yaml."""
    diffusion = _diffusion(process)

    def predict(x: Tensor, t: Time) -> Tensor:
        control, change = _net_and_scale(net, x, t, clip)
        return diffusion(t, x) * (control + (scale + change) * score(x).clamp(-clip, clip))

    return Predictor("control", predict)


def _sampler(name: str, sample: Callable[..., Run], **traits) -> Sampler:
    return Sampler(
        id=f"berner2024dis.{name}", sample=sample, grid=grids.uniform_t, consumes="control", stochastic=True,
        needs=frozenset({"log_density"}), symmetric=frozenset({"rotation"}), weak_order=1.0,
        nfe=lambda grid: grid.shape[0] - 1.0, **traits,
    )  # fmt: skip


def _objective(name: str, loss: Callable[..., Tensor], path: str, reduce: str, base: str) -> Objective:
    return Objective(
        id=f"berner2024dis.{name}", loss=loss, minimiser="control", path=path, reduce=reduce, base=base,
        needs=frozenset({"log_density"}),
    )  # fmt: skip


PAPER = Paper(
    key="berner2024dis",
    title="An optimal control perspective on diffusion-based generative modeling",
    authors="Julius Berner, Lorenz Richter, Karen Ullrich",
    venue="TMLR 2024",
    arxiv="2211.01364",
    code="juliusberner/sde_sampler",
    licence="MIT",
    samplers=(
        _sampler("dis", dis, path="vp-10", base="noising"),
        _sampler("dis_unbiased", dis_unbiased, path="vp-10", base="noising", unbiased=True),
        _sampler("pis", reference, path="brownian-bridge", base="reference", unbiased=True, baseline=True),
        _sampler("dds", reference, path="vp-10", base="reference", unbiased=True, baseline=True),
    ),
    objectives=(
        _objective("kl", kl, "vp-10", "mean", "noising"),
        _objective("kl_ito", kl_ito, "vp-10", "mean", "noising"),
        _objective("log_variance", log_variance, "vp-10", "variance", "noising"),
        _objective("pis_kl", reference_kl, "brownian-bridge", "mean", "reference"),
        _objective("pis_log_variance", reference_log_variance, "brownian-bridge", "variance", "reference"),
        _objective("dds_kl", reference_kl, "vp-10", "mean", "reference"),
        _objective("dds_log_variance", reference_log_variance, "vp-10", "variance", "reference"),
    ),
    parametrisations={"interpolated_score": interpolated_score, "target_score": target_score},
)
