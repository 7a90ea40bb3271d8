"""Grouped-query attention with normalised queries and keys and a rotation of part of each head."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .model_config import ModelConfig

# A bool mask [T, T] for eager and sdpa, a BlockMask for flex_attention, None if all positions see each other.
Mask = Any


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension, computed in fp32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (wide * self.weight.float()).to(x.dtype)


def rotation(positions: Tensor, rotary_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Return cos and sin, each [T, rotary_dim] in fp32, for integer ``positions`` [T]."""
    exponent = torch.arange(0, rotary_dim, 2, device=positions.device, dtype=torch.float32) / rotary_dim
    angle = positions.float()[:, None] * theta**-exponent
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the first ``cos.shape[-1]`` dimensions of x [B, H, T, D]; the others pass (partial_rotary_factor)."""
    size = cos.shape[-1]
    turned, kept = x[..., :size], x[..., size:]
    left, right = turned.chunk(2, dim=-1)
    turned = turned * cos.to(x.dtype) + torch.cat((-right, left), dim=-1) * sin.to(x.dtype)
    return torch.cat((turned, kept), dim=-1)


def _eager(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Compute softmax(q k / sqrt(D)) v in plain operations, to compare the others with."""
    scores: Tensor = (query @ key.transpose(-1, -2)).float() * query.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    out: Tensor = scores.softmax(-1).to(value.dtype) @ value
    return out


_compiled_flex: Any = None


def _flex(query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
    """Run FlexAttention, which skips blocks of keys that no query may see; compiled on a GPU, once for all layers.

    Within a compiled layer it is compiled with the layer.
    """
    global _compiled_flex
    from torch.nn.attention.flex_attention import flex_attention

    attend: Any = flex_attention
    if query.is_cuda and not torch.compiler.is_compiling():
        _compiled_flex = attend = _compiled_flex or torch.compile(flex_attention)
    out: Tensor = attend(query, key, value, block_mask=mask, enable_gqa=True)
    return out


class Attention(nn.Module):
    """x [B, T, hidden] -> [B, T, hidden]; H query heads share H/G key-value heads."""

    def __init__(self, config: ModelConfig, implementation: str) -> None:
        super().__init__()
        self.implementation = implementation
        self.heads, self.kv_heads, self.head_dim = (
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
        )
        self.q_proj = nn.Linear(config.hidden_size, self.heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, self.kv_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, self.kv_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(self.heads * self.head_dim, config.hidden_size, bias=False)
        self.q_norm = RMSNorm(self.head_dim, config.rms_norm_eps)
        self.k_norm = RMSNorm(self.head_dim, config.rms_norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Mask) -> Tensor:
        batch, length, _ = x.shape
        query = self.q_norm(self.q_proj(x).view(batch, length, self.heads, self.head_dim)).transpose(1, 2)
        key = self.k_norm(self.k_proj(x).view(batch, length, self.kv_heads, self.head_dim)).transpose(1, 2)
        value = self.v_proj(x).view(batch, length, self.kv_heads, self.head_dim).transpose(1, 2)
        query, key = rotate(query, cos, sin), rotate(key, cos, sin)
        if self.implementation == "flex_attention":
            out = _flex(query, key, value, mask)
        else:
            # Repeat the keys here instead of enable_gqa: SDPA's fused kernels stay usable on every version and device.
            repeat = self.heads // self.kv_heads
            key, value = key.repeat_interleave(repeat, dim=1), value.repeat_interleave(repeat, dim=1)
            if self.implementation == "sdpa":
                out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
            else:
                out = _eager(query, key, value, mask)
        projected: Tensor = self.o_proj(out.transpose(1, 2).reshape(batch, length, -1))
        return projected
