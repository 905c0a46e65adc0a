"""One optimizer step as fast as the machine can do it. Imports torch: only `train` and `measure_training` import this.

In bf16 the layers are computed with bfloat16 copies of the weights and the gradients are summed in float32, slice by
slice; the optimizer keeps and changes float32 weights. Casting once a step, and not at each use, and normalising in
bfloat16 is what autocast cannot do. Families that run their own forward (see `crosstune.lean`) use autocast.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from crosstune.lean import LeanLayers, WordRows, lean
from crosstune.training.settings import TrainingSettings

_LARGEST_GRADIENT = 1.0


class Engine:
    """A model in training: its working copy, gradients and optimizer.

    Args:
        model: Float32, on its device; the weights that are trained.
        precision: "fp32" or "bf16".
        token_ids: Every token id that training will see, each once; None to train the whole word embedding.
        forward: Over the model's weights, from `crosstune.lean`: what is computed; None for a reranker's logits.
    """

    def __init__(
        self,
        model: nn.Module,
        precision: str,
        token_ids: Sequence[int] | None = None,
        forward: nn.Module | None = None,
    ) -> None:
        self.model = model
        self._device = next(model.parameters()).device
        self._forward = lean(model) if forward is None else forward
        self._autocast = precision == "bf16"
        self._copies: list[tuple[nn.Parameter, nn.Parameter]] = []  # (float32, bfloat16)
        self._rows: WordRows | None = None
        if isinstance(self._forward, LeanLayers):
            words = self._forward.encoder.embeddings.word_embeddings.weight
            if self._autocast:
                self._forward, self._copies = _bf16_layers(self._forward)
                self._autocast = False
            if token_ids is not None:
                self._rows = WordRows(words, torch.as_tensor(token_ids, dtype=torch.long, device=words.device))
                self._forward.rows = self._rows
        self.parameters = self._trained()

    def _trained(self) -> dict[str, nn.Parameter]:
        named = dict(self.model.named_parameters())
        if self._rows is not None:
            (name,) = (name for name, parameter in named.items() if parameter is self._rows.table)
            named[name] = self._rows.weight
        return {name: parameter for name, parameter in named.items() if parameter.requires_grad}

    def gradients(
        self, slices: Sequence[dict[str, Tensor]], loss: Callable[[Tensor], Tensor], twice: bool = False
    ) -> float:
        """Add the gradients of one batch, or of a part of it.

        Each slice's graph is freed once its gradients are summed.

        Args:
            slices: Model inputs.
            loss: Outputs of all slices, float32, to a scalar: logits (pairs,), or vectors (texts, dimensions).
            twice: Compute every slice a second time for its gradients rather than keep all graphs until the loss is
                known: a third more work, in the memory of one slice (Gao, Zhang, Han and Callan, "Scaling Deep
                Contrastive Learning Batch Size under Memory Limited Setup", 2021).

        Returns:
            The loss.
        """
        with torch.set_grad_enabled(not twice):
            outputs = [self._run(part) for part in slices]
        joined = torch.cat([output.detach().float() for output in outputs]).requires_grad_()
        value = loss(joined)
        sizes = [len(output) for output in outputs]
        for part, gradient in zip(slices, torch.split(torch.autograd.grad(value, joined)[0], sizes), strict=True):
            output = outputs.pop(0)
            if twice:
                output = self._run(part)
            output.backward(gradient.to(output.dtype))  # type: ignore[no-untyped-call]
            del output
            self._collect()
        return float(value.detach())

    def _run(self, part: dict[str, Tensor]) -> Tensor:
        inputs = {name: tensor.to(self._device, non_blocking=True) for name, tensor in part.items()}
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._autocast):
            output: Tensor = self._forward(**inputs)
        return output

    def _collect(self) -> None:
        """Add the bfloat16 gradients of one slice to the float32 ones."""
        for master, worker in self._copies:
            if worker.grad is None:
                continue
            if master.grad is None:
                master.grad = worker.grad.float()
            else:
                master.grad.add_(worker.grad)
            worker.grad = None

    def forget_gradients(self) -> None:
        """Drop what was added since the last step."""
        for parameter in self.parameters.values():
            parameter.grad = None
        for _, worker in self._copies:
            worker.grad = None

    def refresh(self) -> None:
        """Bring the working copy up to the float32 weights."""
        with torch.no_grad():
            for master, worker in self._copies:
                worker.copy_(master)

    def publish(self) -> None:
        """Bring `model` up to what was trained, for whoever reads it."""
        if self._rows is not None:
            self._rows.publish()

    def recall(self) -> None:
        """Take over weights that were loaded into `model`."""
        if self._rows is not None:
            self._rows.recall()
        self.refresh()


class Optimizer:
    """AdamW with clipped gradients on a linear schedule with warm-up; biases and norms do not decay.

    Args:
        engine: Whose parameters are changed.
        settings: Learning rate, steps, decay.
    """

    def __init__(self, engine: Engine, settings: TrainingSettings) -> None:
        self._engine = engine
        self._settings = settings
        self._n_warmup = math.ceil(settings.n_steps * settings.warmup_share)
        decays = {name: parameter.dim() > 1 for name, parameter in engine.parameters.items()}
        self._adam = torch.optim.AdamW(
            [
                {
                    "params": [p for name, p in engine.parameters.items() if decays[name] is decayed],
                    "weight_decay": settings.weight_decay if decayed else 0.0,
                }
                for decayed in (True, False)
            ],
            lr=settings.learning_rate,
            fused=True,
        )

    def step(self, number: int) -> None:
        """Change the weights by the gradients summed; `number` counts steps from 0."""
        parameters = list(self._engine.parameters.values())
        torch.nn.utils.clip_grad_norm_(parameters, _LARGEST_GRADIENT)
        for group in self._adam.param_groups:
            group["lr"] = self._settings.learning_rate * self._share(number)
        self._adam.step()
        self._engine.forget_gradients()
        self._engine.refresh()

    def _share(self, number: int) -> float:
        """Share of the peak learning rate."""
        if number < self._n_warmup:
            return number / self._n_warmup
        return (self._settings.n_steps - number) / max(1, self._settings.n_steps - self._n_warmup)

    def tensors(self) -> dict[str, Tensor]:
        """State to save: name of the parameter and of its moment -> tensor."""
        return {
            f"{name}/{key}": tensor
            for name, parameter in self._engine.parameters.items()
            for key, tensor in self._adam.state[parameter].items()
        }

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over a saved state."""
        for name, parameter in self._engine.parameters.items():
            moments = {key.rsplit("/", 1)[1]: t for key, t in tensors.items() if key.rsplit("/", 1)[0] == name}
            if moments:
                self._adam.state[parameter] = {
                    key: tensor if key == "step" else tensor.to(parameter.device) for key, tensor in moments.items()
                }


def _bf16_layers(forward: LeanLayers) -> tuple[LeanLayers, list[tuple[nn.Parameter, nn.Parameter]]]:
    """The same forward over bfloat16 copies of the layers; embeddings and head are the model's own."""
    replica, encoder = copy.copy(forward), copy.copy(forward.encoder)
    replica._modules, encoder._modules = dict(forward._modules), dict(forward.encoder._modules)
    encoder._modules["encoder"] = copy.deepcopy(forward.encoder.encoder).to(torch.bfloat16)
    replica.encoder = encoder
    originals = forward.encoder.encoder.parameters()
    return replica, list(zip(originals, encoder.encoder.parameters(), strict=True))
