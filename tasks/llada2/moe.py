"""Feed-forward layers: a dense SwiGLU, and a mixture of experts with a sigmoid router and a shared expert."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .model_config import ModelConfig


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)) over the last dimension."""

    def __init__(self, size: int, inner: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(size, inner, bias=False)
        self.up_proj = nn.Linear(size, inner, bias=False)
        self.down_proj = nn.Linear(inner, size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Router(nn.Module):
    """x [N, hidden] -> (expert ids [N, k], weights [N, k] in fp32).

    Sigmoid scores in fp32. ``expert_bias`` moves the choice only, never the weight. A group's merit is the sum of its
    two best biased scores; the best ``topk_group`` groups stay, and the k best experts within them are chosen. Their
    unbiased scores are normalised to 1 and multiplied by ``routed_scaling_factor`` (2.5). The score of a single expert
    (k = 1) is not normalised: it would always be 1, and the router would learn nothing.
    """

    expert_bias: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.num_experts, config.hidden_size))
        self.register_buffer("expert_bias", torch.zeros(config.num_experts))
        self.config = config

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        c = self.config
        with torch.autocast(x.device.type, enabled=False):
            scores = F.linear(x.float(), self.weight.float()).sigmoid()
        with torch.no_grad():
            biased = scores + self.expert_bias
            grouped = biased.view(-1, c.n_group, c.num_experts // c.n_group)
            merit = grouped.topk(min(2, grouped.shape[-1]), dim=-1).values.sum(-1)
            kept = torch.zeros_like(merit, dtype=torch.bool).scatter_(1, merit.topk(c.topk_group, dim=-1).indices, True)
            biased = grouped.masked_fill(~kept[..., None], float("-inf")).flatten(1)
            experts = biased.topk(c.num_experts_per_tok, dim=-1).indices
        weights = scores.gather(1, experts)
        if c.num_experts_per_tok > 1:
            weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
        return experts, weights * c.routed_scaling_factor


class Experts(nn.Module):
    """All experts of a layer, stacked: ``gate_proj`` and ``up_proj`` [E, inner, hidden], ``down_proj`` [E, hidden, inner].

    ``eager`` walks over the experts; ``fused`` sorts the tokens by expert and does one grouped matrix product.
    """

    def __init__(self, config: ModelConfig, implementation: str) -> None:
        super().__init__()
        count, size, inner = config.num_experts, config.hidden_size, config.moe_intermediate_size
        self.gate_proj = nn.Parameter(torch.empty(count, inner, size))
        self.up_proj = nn.Parameter(torch.empty(count, inner, size))
        self.down_proj = nn.Parameter(torch.empty(count, size, inner))
        self.implementation = implementation

    def forward(self, x: Tensor, experts: Tensor, weights: Tensor) -> Tensor:
        """Return the weighted sum of each token's k experts: x [N, hidden], experts and weights [N, k] -> [N, hidden]."""
        top_k, count = experts.shape[1], self.gate_proj.shape[0]
        order = experts.flatten().argsort(stable=True)
        token = order // top_k
        # Not bincount: its result has a size that depends on the data, and a compiled layer would break in two there.
        sizes = torch.zeros(count, dtype=torch.long, device=x.device)
        sizes.index_add_(0, experts.flatten(), torch.ones_like(order))
        gathered = x[token]
        out = self._fused(gathered, sizes) if self.implementation == "fused" else self._eager(gathered, sizes)
        out = out * weights.flatten()[order, None].to(out.dtype)
        return torch.zeros_like(x, dtype=out.dtype).index_add(0, token, out).to(x.dtype)

    def _eager(self, x: Tensor, sizes: Tensor) -> Tensor:
        parts = torch.split(x, sizes.tolist())
        return torch.cat(
            [
                F.linear(F.silu(F.linear(part, gate)) * F.linear(part, up), down)
                for part, gate, up, down in zip(parts, self.gate_proj, self.up_proj, self.down_proj, strict=True)
            ]
        )

    def _fused(self, x: Tensor, sizes: Tensor) -> Tensor:
        ends = sizes.cumsum(0).to(torch.int32)
        inner = F.silu(grouped(x, self.gate_proj, ends)) * grouped(x, self.up_proj, ends)
        return grouped(inner, self.down_proj, ends).to(x.dtype)


def grouped(x: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    """Multiply the rows of x [N, in] up to ``ends[0]`` by ``weight[0]`` [out, in], the next up to ``ends[1]`` by weight[1], …

    On CUDA the kernel takes bf16 alone, and autocast does not know it.
    """
    narrow = x.is_cuda or torch.is_autocast_enabled(x.device.type)
    dtype = torch.bfloat16 if narrow else x.dtype
    out: Tensor = torch._grouped_mm(x.to(dtype), weight.to(dtype).transpose(-2, -1), offs=ends)
    return out


def why_not_grouped(config: ModelConfig, device: torch.device) -> str:
    """Return why this torch on this device cannot multiply this model's experts at once; "" if it can."""
    size, inner = config.hidden_size, config.moe_intermediate_size
    ends = torch.tensor([3], dtype=torch.int32, device=device)
    try:
        for rows, columns in ((size, inner), (inner, size)):
            grouped(torch.zeros(3, rows, device=device), torch.zeros(1, columns, rows, device=device), ends)
    except (AttributeError, RuntimeError) as error:
        return str(error).splitlines()[0]
    return ""


class MoE(nn.Module):
    """x [B, T, hidden] -> the routed experts' sum plus the shared expert's answer."""

    def __init__(self, config: ModelConfig, implementation: str) -> None:
        super().__init__()
        self.gate = Router(config)
        self.experts = Experts(config, implementation)
        inner = config.moe_intermediate_size * config.num_shared_experts
        self.shared_experts = SwiGLU(config.hidden_size, inner) if inner else None

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(0, 1)
        out: Tensor = self.experts(flat, *self.gate(flat))
        if self.shared_experts is not None:
            out = out + self.shared_experts(flat)
        return out.view_as(x)
