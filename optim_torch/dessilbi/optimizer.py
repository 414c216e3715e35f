"""DessiLBI: find a network's sparse structure while it trains, with any base optimizer.

Beside its weights W a network gets a sparse copy Γ, driven by a dual variable V (Fu et al. 2020,
"DessiLBI: exploring structural sparsity of deep networks via differential inclusion paths",
algorithm 1). With L the loss, α = lr, and D = W - Γ from before the step:

    V <- V + (α_Γ / ν) D        Γ <- κ prox(V)        W <- W - κ α (∇L(W) + D / ν)

Γ starts at zero and grows important groups first; where it is zero the coupling D / ν is weight
decay of strength 1 / ν. The base optimizer takes the step along ∇L at the rate κ α.
"""

import inspect
import math

import torch
from torch.optim import SGD, Optimizer

from optim_torch.dessilbi import bases, groups, refusals, structure, updates
from optim_torch.dessilbi.groups import Block
from optim_torch.dessilbi.warm_start import warm_start

STEERING = 0.5  # per step: change of a threshold's logarithm by the gap of densities; 2 is too much


class DessiLBI(Optimizer):
    """DessiLBI around a torch optimizer for W; use it like any other optimizer.

    params: parameters, named parameters or groups; every option but `base` and `foreach` can be
        set for each group.
    lr: α. The base optimizer runs at κ α.
    kappa: damping κ. The larger, the closer the path to its limit, and the larger the steps.
    nu: ν of the coupling ||W - Γ||² / 2ν.
    lr_gamma: α_Γ, V's own step; None: lr, as in the paper. With adaptive optimizers at their small
        rates V would not move (|V| must pass the threshold: about ν / (α_Γ |W|) steps), so give
        one. It does not follow learning-rate schedulers.
    base, base_kwargs: class of torch.optim for W, and its options.
    coupling: "decoupled" adds D / ν beside the base's step, as the authors do; "coupled" adds it to
        the gradient that the base sees, inside its momentum and its adaptive scaling.
    penalty, threshold, scale_by_size: which groups share a fate (see `groups.partition`), λ of the
        proximal map (the paper's 1), and whether λ is multiplied by the root of the group's size.
    target_density: None, or what `structure.density` comes to: before every step the thresholds
        are multiplied by exp(0.5 (density - target)), so that λ need not be known (after
        Aloradi et al. 2026, arXiv 2605.07892, for linearised Bregman training). It is met to the
        size of a group, after some hundred steps, if it is above the share of what has no penalty.
    gamma_adaptive: V moves by Adam's rule with the step α_Γ instead of α_Γ / ν.
    foreach: False adds tensor by tensor instead of to lists; the base takes it too.

    `state[p]` holds `v`, `gamma` and, for the groups that begin at p, `entry` (the time on V's
    clock, Σ α_Γ / ν, since when a group has been in the support; infinite outside), beside the
    base's own. Parameters without a gradient are left as they are, and at lr = 0 neither W nor Γ
    moves (unless the base moves W, as Rprop does); a zero gradient does not stop the coupling, nor
    does a sparse one, which the base (but SparseAdam) gets in its dense form.
    Weight decay is the base's: the authors' code decays inside the momentum buffer instead. Keep
    parameters in float32 or wider (autocast does): V adds up small steps.
    """

    def __init__(
        self,
        params,
        lr,
        *,
        kappa=1.0,
        nu=100.0,
        lr_gamma=None,
        base=SGD,
        coupling="decoupled",
        penalty="auto",
        threshold=1.0,
        scale_by_size=False,
        gamma_adaptive=False,
        target_density=None,
        foreach=None,
        **base_kwargs,
    ):
        own = {
            "kappa": kappa,
            "nu": nu,
            "lr_gamma": lr_gamma,
            "coupling": coupling,
            "penalty": penalty,
            "threshold": threshold,
            "scale_by_size": scale_by_size,
            "gamma_adaptive": gamma_adaptive,
            "target_density": target_density,
            "clock": 0.0,
        }
        refusals.refuse_impossible({"lr": lr, **own})
        if not (isinstance(base, type) and issubclass(base, Optimizer)):
            raise ValueError(f"base must be a class of torch.optim, got {base!r}")
        if isinstance(params, torch.Tensor):
            raise TypeError("params must be an iterable of tensors or groups, not one tensor")
        params = list(params)
        if not params:
            raise ValueError("DessiLBI got an empty parameter list")
        if not isinstance(params[0], dict):
            params = [{"params": params}]
        param_groups = [{**group, "params": _as_list(group["params"])} for group in params]
        if "foreach" in inspect.signature(base).parameters:
            base_kwargs["foreach"] = foreach
        self._base_class, self._base_kwargs = base, {"lr": lr, **base_kwargs}
        self.base = self._new_base(param_groups)
        self._partitions = []
        super().__init__(param_groups, {**self.base.defaults, "foreach": foreach, **own})
        self._share_with_base()

    def add_param_group(self, param_group):
        """Add a group of parameters; nothing is changed if it is refused (ValueError)."""
        group = {**param_group, "params": _as_list(param_group["params"])}
        if isinstance(group.get("penalty"), (list, tuple)):  # tensors can be saved
            group["penalty"] = [torch.as_tensor(x, dtype=torch.long) for x in group["penalty"]]
        whole = {**self.defaults, **group}
        refusals.refuse_impossible(whole)
        if self._base_class is torch.optim.SparseAdam and whole["coupling"] == "coupled":
            raise ValueError("SparseAdam takes sparse gradients, 'coupled' makes dense ones")
        if self.param_groups:
            self._new_base([group])  # the base may refuse it
        super().add_param_group(group)
        try:
            self._partitions.append(groups.partition(group["penalty"], group["params"]))
        except ValueError:
            self.param_groups.pop()
            raise

    @torch.no_grad()
    def step(self, closure=None):
        """One step of Γ, then of W; returns the closure's loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        gradients = {}  # those that the base does not get as they are
        try:
            bases.make_dense(self.base, self.param_groups, gradients)
            self._steer()
            for group, partition in zip(self.param_groups, self._partitions, strict=True):
                self._couple(group, partition, gradients)
            self._step_base()
        finally:
            for parameter, gradient in gradients.items():
                parameter.grad = gradient
        return loss

    def _steer(self):
        """Move the thresholds of groups with a `target_density` towards it, where V will move."""
        steered = [
            group
            for group in self.param_groups
            if group["target_density"] is not None
            and group["lr"] != 0
            and group["lr_gamma"] != 0
            and any(parameter.grad is not None for parameter in group["params"])
        ]
        density = structure.density(self) if steered else None
        for group in steered:
            group["threshold"] *= math.exp(STEERING * (density - group["target_density"]))

    def warm_start(self, density=1.0):
        """Start Γ at W, or at its largest part, so that the coupling keeps pretrained weights.

        density: share of the penalised entries that Γ takes over, by whole groups with the
            largest root mean square, over all layers.
        V is set so that κ prox(V) = Γ; entry times are 0.
        """
        warm_start(self, density)

    def blocks(self):
        """All penalised tensors with their grouping, as `Block`s: what structure.py reads. Those
        with a frozen one among them, which was never trained, have none and count as kept."""
        for number, (group, partition) in enumerate(
            zip(self.param_groups, self._partitions, strict=True)
        ):
            names = group.get("param_names") or [
                f"group{number}.{position}" for position in range(len(group["params"]))
            ]
            for positions, grouping in partition:
                params = [group["params"][i] for i in positions]
                if all(p.requires_grad or self.state.get(p) for p in params):
                    yield Block([names[i] for i in positions], params, grouping, group)

    def __getstate__(self):
        kept = {"_base_class": self._base_class, "_base_kwargs": self._base_kwargs}
        return {**super().__getstate__(), **kept}

    def __setstate__(self, state):
        """After loading (load_state_dict), copying and unpickling.

        The state of another model or optimizer is refused (ValueError) before anything changes.
        """
        defaults = state.get("defaults", self.__dict__.get("defaults"))
        for group in state["param_groups"]:
            group.setdefault("target_density", None)  # states from before there was one
            missing = [key for key in defaults if key not in group]
            if missing:
                raise ValueError(f"the state is of another optimizer: it has no {missing[0]!r}")
        refusals.refuse_other_shapes(state)
        partitions = [
            groups.partition(group["penalty"], group["params"]) for group in state["param_groups"]
        ]
        super().__setstate__(state)
        self._partitions = partitions
        for own in self.state.values():
            if "v_step" in own:  # torch casts it to the parameter's dtype and device
                own["v_step"] = own["v_step"].to("cpu", torch.float32)
        if "base" not in self.__dict__:  # a copy, or unpickled
            self.base = self._new_base([{"params": group["params"]} for group in self.param_groups])
        self._share_with_base()

    def _new_base(self, param_groups):
        return bases.make(self._base_class, param_groups, self._base_kwargs)

    def _share_with_base(self):
        """One state and one list of groups for both."""
        with bases.without_own(self.state):
            # Some bases look into the state of each parameter, if there is any.
            begun = {p: own for p, own in self.state.items() if own}
            self.base.__setstate__({"state": begun, "param_groups": self.param_groups})
        self.base.state = self.state

    def _step_base(self):
        rates = [group["lr"] for group in self.param_groups]
        try:
            for group in self.param_groups:
                if group["kappa"] != 1:
                    group["lr"] = group["kappa"] * group["lr"]
            with bases.without_own(self.state):
                self.base.step()
        finally:
            for group, rate in zip(self.param_groups, rates, strict=True):
                group["lr"] = rate

    @torch.compiler.disable(recursive=False)  # gathers lists; the arithmetic below is compiled
    def _couple(self, group, partition, gradients):
        """Move V and Γ of a group; give D / ν to W, or to the gradient that the base sees."""
        params, blocks = [], []
        for positions, grouping in partition:
            members = [group["params"][i] for i in positions]
            if all(p.grad is not None for p in members):
                block = Block(None, members, grouping, group)
                part = slice(len(params), len(params) + len(members))
                blocks.append((part, grouping, block.threshold(), self._state_of(block)))
                params += members
        if not blocks:
            return
        lr, kappa, nu = group["lr"], group["kappa"], group["nu"]
        # A separate clock stands still too while lr is 0.
        lr_gamma = lr if group["lr_gamma"] is None else group["lr_gamma"] * (lr != 0)
        group["clock"] = group["clock"] + lr_gamma / nu
        vs = [self.state[p]["v"] for p in params]
        gammas = [self.state[p]["gamma"] for p in params]
        foreach = group["foreach"] is not False
        difference = updates.subtract(params, gammas, foreach)
        if group["gamma_adaptive"]:
            states = [self.state[parameter] for parameter in params]
            updates.move_adaptively(states, difference, lr_gamma, nu, foreach)
        else:
            updates.add(vs, difference, lr_gamma / nu, foreach)
        updates.select(vs, gammas, blocks, kappa, group["clock"])
        if group["coupling"] == "decoupled":
            updates.add(params, difference, -kappa * lr / nu, foreach)
        else:
            sign = -1 if group.get("maximize") else 1
            for parameter, part in zip(params, difference, strict=True):
                gradients.setdefault(parameter, parameter.grad)
                parameter.grad = part.mul_(sign / nu).add_(parameter.grad)

    def _state_of(self, block):
        """Make what is missing of the state of a block; returns its entry times."""
        for parameter in block.params:
            state = self.state[parameter]
            if "v" not in state:
                state["v"] = torch.zeros_like(parameter)
                state["gamma"] = torch.zeros_like(parameter)
        first = self.state[block.params[0]]
        if "entry" not in first:
            first["entry"] = torch.full_like(block.grouping.norms(block.params), math.inf)
        return first["entry"]


def _as_list(params):
    return [params] if isinstance(params, torch.Tensor) else list(params)
