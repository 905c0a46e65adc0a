"""One optimizer step as fast as the machine can do it. Imports torch: only `train` and `measure_training` import this.

In bf16 the layers are computed with bfloat16 copies of the weights and the gradients are summed in float32, slice by
slice; the optimizer keeps and changes float32 weights. Casting once a step, and not at each use, and normalising in
bfloat16 is what autocast cannot do. Families that run their own forward (see `crosstune.lean`) use autocast.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from crosstune.lean import LeanLayers, WordRows, bf16_layers, lean
from crosstune.team import Team, shared_out, torch_team
from crosstune.training.settings import TrainingSettings

_LARGEST_GRADIENT = 1.0


class _Worker:
    """What one thread computes with.

    Args:
        forward: Its pass.
        copies: (trained, own) of the parameters that it has copies of; of others it uses those that are trained.
        alone: Whether nobody else adds to the gradients of the trained ones meanwhile.
    """

    def __init__(self, forward: nn.Module, copies: Sequence[tuple[nn.Parameter, nn.Parameter]], alone: bool) -> None:
        self.forward = forward
        self.copies = [pair for pair in copies if pair[0].requires_grad]
        self._alone = alone
        self._sums: list[Tensor | None] = [None] * len(self.copies)

    def collect(self) -> None:
        """Sum the gradients of one slice in float32: in bfloat16 small ones would be lost beside the sum."""
        # Those of float32 copies the backward pass sums by itself.
        found = {
            i: own.grad for i, (_, own) in enumerate(self.copies) if own.grad is not None and own.dtype != torch.float32
        }
        totals = [self.copies[i][0].grad if self._alone else self._sums[i] for i in found]
        for i, total in zip(found, _added(totals, list(found.values())), strict=True):
            trained, own = self.copies[i]
            own.grad = None
            if self._alone:
                trained.grad = total
            else:
                self._sums[i] = total

    def hand_over(self) -> None:
        """Add what was summed to the gradients of the trained parameters."""
        for place, (trained, own) in enumerate(self.copies):
            for gradient in (self._sums[place], own.grad):
                if gradient is not None:
                    (trained.grad,) = _added([trained.grad], [gradient])
        self.forget()

    def forget(self) -> None:
        """Drop what was summed."""
        self._sums = [None] * len(self.copies)
        for _, own in self.copies:
            own.grad = None

    def refresh(self) -> None:
        """Bring the copies up to the trained parameters."""
        if not self.copies:
            return
        with torch.no_grad():
            torch._foreach_copy_([own for _, own in self.copies], [trained for trained, _ in self.copies])


def _added(totals: Sequence[Tensor | None], gradients: Sequence[Tensor]) -> list[Tensor]:
    """Float32 totals with the gradients added, in a few launches on a GPU however many tensors there are."""
    sums = [
        torch.empty_like(gradient, dtype=torch.float32) if total is None else total
        for total, gradient in zip(totals, gradients, strict=True)
    ]
    for write, places in (
        (torch._foreach_copy_, [i for i, total in enumerate(totals) if total is None]),
        (torch._foreach_add_, [i for i, total in enumerate(totals) if total is not None]),
    ):
        if places:  # Empty lists are refused.
            write([sums[i] for i in places], [gradients[i] for i in places])
    return sums


class Engine:
    """A model in training: working copies, gradients and optimizer.

    On a CPU several threads compute slices side by side, each with weights of its own; which slice is whose depends on
    the slices alone, so that equal runs add in equal order.

    Args:
        model: Float32, on its device; the weights that are trained.
        precision: "fp32" or "bf16".
        token_ids: Every token id that training will see, each once; None to train the whole word embedding.
        forward: Over the model's weights, from `crosstune.lean`: what is computed; None for a reranker's logits.
        team: Threads; None for those of this process.
    """

    def __init__(
        self,
        model: nn.Module,
        precision: str,
        token_ids: Sequence[int] | None = None,
        forward: nn.Module | None = None,
        team: Team | None = None,
    ) -> None:
        self.model = model
        self._device = next(model.parameters()).device
        forward = lean(model) if forward is None else forward
        self._autocast = precision == "bf16"
        self._rows: WordRows | None = None
        copies: list[tuple[nn.Parameter, nn.Parameter]] = []  # (float32, bfloat16)
        unused: list[Tensor] = []
        if isinstance(forward, LeanLayers):
            words = forward.encoder.embeddings.word_embeddings.weight
            if self._autocast:
                forward, copies = bf16_layers(forward)
                self._autocast = False
                unused += [trained for trained, _ in copies]
            if token_ids is not None:
                self._rows = WordRows(words, torch.as_tensor(token_ids, dtype=torch.long, device=words.device))
                forward.rows = self._rows
                unused.append(words)
        if self._device.type != "cpu":
            team = Team(1)
        self._team = team or torch_team()
        self._workers = [_Worker(forward, copies, alone=True)]
        trained_by = {own: trained for trained, own in copies}
        for _ in range(1, self._team.size):
            self._workers.append(_Worker(*_copied(forward, trained_by, unused), alone=False))
        self.parameters = self._trained()

    @property
    def n_workers(self) -> int:
        """How many slices are computed side by side."""
        return self._team.size

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
        shares = list(zip(self._workers, shared_out([_size(part) for part in slices], self._team.size), strict=True))
        outputs: list[Tensor | None] = [None] * len(slices)

        def compute(worker: _Worker, place: int) -> None:
            with torch.set_grad_enabled(not twice):
                outputs[place] = self._run(worker, slices[place])

        def add(worker: _Worker, place: int, gradient: Tensor) -> None:
            output, outputs[place] = outputs[place], None
            if output is None or twice:
                output = self._run(worker, slices[place])
            output.backward(gradient.to(output.dtype))  # type: ignore[no-untyped-call]
            del output
            worker.collect()

        self._team.side_by_side([[partial(compute, worker, place) for place in share] for worker, share in shares])
        found = [output for output in outputs if output is not None]
        joined = torch.cat([output.detach().float() for output in found]).requires_grad_()
        value = loss(joined)
        parts = torch.split(torch.autograd.grad(value, joined)[0], [len(output) for output in found])
        del found
        self._team.side_by_side(
            [[partial(add, worker, place, parts[place]) for place in share] for worker, share in shares]
        )
        for worker in self._workers[1:]:
            worker.hand_over()
        return float(value.detach())

    def _run(self, worker: _Worker, part: dict[str, Tensor]) -> Tensor:
        inputs = {name: tensor.to(self._device, non_blocking=True) for name, tensor in part.items()}
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._autocast):
            output: Tensor = worker.forward(**inputs)
        return output

    def forget_gradients(self) -> None:
        """Drop what was added since the last step."""
        for parameter in self.parameters.values():
            parameter.grad = None
        for worker in self._workers:
            worker.forget()

    def refresh(self) -> None:
        """Bring the working copies up to the float32 weights."""
        for worker in self._workers:
            worker.refresh()

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
                self._adam.state[parameter] = {key: t.to(parameter.device) for key, t in moments.items()}


def _copied(
    forward: nn.Module, trained_by: Mapping[nn.Parameter, nn.Parameter], unused: Sequence[Tensor]
) -> tuple[nn.Module, list[tuple[nn.Parameter, nn.Parameter]]]:
    """The same pass over weights of its own, and (trained, own) of them; what the pass does not use is not copied.

    Args:
        forward: Over the first worker's weights.
        trained_by: The first worker's copy -> the parameter that it is a copy of.
        unused: Parameters that lie in `forward` and are not used.
    """
    replica = copy.deepcopy(forward, {id(tensor): tensor for tensor in unused})
    pairs = zip(forward.parameters(), replica.parameters(), strict=True)
    return replica, [(trained_by.get(first, first), own) for first, own in pairs if first is not own]


def _size(part: Mapping[str, Tensor]) -> int:
    """Padded tokens of a slice."""
    return part["input_ids"].numel()
