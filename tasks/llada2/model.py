"""Decoder: embedding, layers of attention and feed-forward, final norm, and an untied head."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint

from . import shards
from .attention import Attention, Mask, RMSNorm, rotation
from .model_config import ModelConfig
from .moe import Experts, MoE, Router, SwiGLU


class Layer(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); the first ``first_k_dense_replace`` layers have a dense mlp."""

    def __init__(self, config: ModelConfig, index: int, attention: str, moe: str) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.attention = Attention(config, attention)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        dense = index < config.first_k_dense_replace
        self.mlp: nn.Module = SwiGLU(config.hidden_size, config.intermediate_size) if dense else MoE(config, moe)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Mask) -> Tensor:
        x = x + self.attention(self.input_layernorm(x), cos, sin, mask)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class LLaDA2(nn.Module):
    """Token ids [B, T] -> logits [B, T', vocabulary], T' = T or the first ``keep`` positions."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        attention: str = "sdpa",
        moe: str = "eager",
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = gradient_checkpointing
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, i, attention, moe) for i in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, ids: Tensor, positions: Tensor, mask: Mask, keep: int | None = None) -> Tensor:
        """Compute the logits. ``positions`` [T] are the rotary positions: 0..L-1 twice for x_t ‖ x_0. Only ``keep`` positions are scored."""
        x = self.word_embeddings(ids)
        cos, sin = rotation(positions, self.config.rotary_dim, self.config.rope_theta)
        for layer in self.layers:
            if self.gradient_checkpointing and self.training:
                x = checkpoint(layer, x, cos, sin, mask, use_reentrant=False)
            else:
                x = layer(x, cos, sin, mask)
        if keep is not None:
            x = x[:, :keep]
        logits: Tensor = self.lm_head(self.norm(x))
        return logits

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Draw every weight, in the order of the modules, and fill the buffers, so that it may follow the meta device.

        ``normal``: N(0, initializer_range) everywhere. ``fan_in``: N(0, 1/fan_in), embeddings N(0, 1), head N(0,
        initializer_range), which lets a tiny model leave the plateau of letter frequencies sooner.
        """
        c = self.config
        fan_in = c.init_scheme == "fan_in"

        def draw(weight: Tensor, std: float) -> None:
            draw_normal(weight, std, generator)

        for module in self.modules():
            if isinstance(module, nn.Embedding):
                draw(module.weight, 1.0 if fan_in else c.initializer_range)
            elif isinstance(module, nn.Linear):
                wide = fan_in and module is not self.lm_head
                draw(module.weight, 1 / math.sqrt(module.in_features) if wide else c.initializer_range)
            elif isinstance(module, Experts):
                for weight in (module.gate_proj, module.up_proj, module.down_proj):
                    draw(weight, 1 / math.sqrt(weight.shape[-1]) if fan_in else c.initializer_range)
            elif isinstance(module, Router):
                draw(module.weight, 1 / math.sqrt(c.hidden_size) if fan_in else c.initializer_range)
                module.expert_bias.zero_()
            elif isinstance(module, RMSNorm):
                module.weight.fill_(1.0)
        for layer in self.layers:
            assert isinstance(layer, Layer)
            layer.attention.q_norm.weight.fill_(c.qk_norm_init)
            layer.attention.k_norm.weight.fill_(c.qk_norm_init)


def draw_normal(weight: Tensor, std: float, generator: torch.Generator | None) -> None:
    """Draw a weight from N(0, std).

    Of a sharded weight each rank draws the whole and keeps its rows. To draw shard by shard would give all ranks the
    same numbers on the CPU, and others for each number of ranks everywhere.
    """
    device = weight.device if generator is None else generator.device
    if not isinstance(weight, DTensor) and weight.device == device:
        weight.normal_(0.0, std, generator=generator)
        return
    whole = torch.empty(weight.shape, dtype=weight.dtype, device=device).normal_(0.0, std, generator=generator)
    shards.local_rows(weight).copy_(whole[shards.row_range(weight)])


def parameter_count(model: nn.Module) -> int:
    """Return the number of trained parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def active_parameter_count(model: LLaDA2) -> int:
    """Return the number of weights that multiply a token: only its chosen experts, and no embedding table."""
    idle = 0
    for module in model.modules():
        if isinstance(module, Experts):
            share = 1 - model.config.num_experts_per_tok / model.config.num_experts
            idle += int(share * sum(p.numel() for p in module.parameters()))
    return parameter_count(model) - idle - model.word_embeddings.weight.numel()
