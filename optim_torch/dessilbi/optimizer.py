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
from torch.optim.adam import adam

from optim_torch.dessilbi import groups, updates
from optim_torch.dessilbi.groups import Block

OWN_STATE = ("v", "gamma", "entry", "v_exp_avg", "v_exp_avg_sq", "v_step")
COUPLINGS = ("decoupled", "coupled")


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
            "clock": 0.0,
        }
        _check({"lr": lr, **own})
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
        _check(whole)
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
            self._make_dense(gradients)
            for group, partition in zip(self.param_groups, self._partitions, strict=True):
                self._couple(group, partition, gradients)
            self._step_base()
        finally:
            for parameter, gradient in gradients.items():
                parameter.grad = gradient
        return loss

    @torch.no_grad()
    def warm_start(self, density=1.0):
        """Start Γ at W, or at its largest part, so that the coupling keeps pretrained weights.

        density: share of the penalised entries that Γ takes over, by whole groups with the
            largest root mean square, over all layers.
        V is set so that κ prox(V) = Γ; entry times are 0.
        """
        if not 0 <= density <= 1:
            raise ValueError(f"density must lie in [0, 1], got {density}")
        blocks = list(self.blocks())
        sizes = [block.grouping.sizes(block.params).flatten() for block in blocks]
        means = [
            block.grouping.norms(block.params).flatten() / size.sqrt()
            for block, size in zip(blocks, sizes, strict=True)
        ]
        order = torch.cat(means).sort(descending=True, stable=True).indices
        sizes = torch.cat(sizes)
        taken = torch.zeros_like(sizes, dtype=torch.bool)
        taken[order] = sizes[order].cumsum(0) <= round(density * int(sizes.sum()))
        for block, chosen in zip(blocks, taken.split([len(mean) for mean in means]), strict=True):
            chosen = chosen.view_as(block.grouping.norms(block.params))
            masks = block.grouping.spread(chosen, block.params)
            gammas = [p * mask for p, mask in zip(block.params, masks, strict=True)]
            chosen = chosen & (block.grouping.norms(gammas) > 0)
            threshold, kappa = block.threshold(), block.group["kappa"]
            vs = groups.inverse_proximal(block.grouping, gammas, threshold, kappa)
            for parameter, v, gamma in zip(block.params, vs, gammas, strict=True):
                self.state[parameter].update(v=v, gamma=gamma)
            self.state[block.params[0]]["entry"] = torch.where(chosen, 0.0, math.inf)

    def blocks(self):
        """All penalised tensors with their grouping, as `Block`s: what structure.py reads."""
        for number, (group, partition) in enumerate(
            zip(self.param_groups, self._partitions, strict=True)
        ):
            names = group.get("param_names") or [
                f"group{number}.{position}" for position in range(len(group["params"]))
            ]
            for positions, grouping in partition:
                yield Block(
                    [names[i] for i in positions],
                    [group["params"][i] for i in positions],
                    grouping,
                    group,
                )

    def __getstate__(self):
        kept = {"_base_class": self._base_class, "_base_kwargs": self._base_kwargs}
        return {**super().__getstate__(), **kept}

    def __setstate__(self, state):
        """After loading (load_state_dict), copying and unpickling.

        The state of another model or optimizer is refused (ValueError) before anything changes.
        """
        defaults = state.get("defaults", self.__dict__.get("defaults"))
        for group in state["param_groups"]:
            missing = [key for key in defaults if key not in group]
            if missing:
                raise ValueError(f"the state is of another optimizer: it has no {missing[0]!r}")
        _refuse_other_shapes(state)
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
        try:
            inspect.signature(self._base_class).bind(param_groups, **self._base_kwargs)
        except TypeError as error:
            raise ValueError(f"{self._base_class.__name__}: {error}") from None
        base = self._base_class([dict(group) for group in param_groups], **self._base_kwargs)
        if isinstance(base, torch.optim.LBFGS):
            raise ValueError("LBFGS calls the closure many times a step and cannot be the base")
        return base

    def _share_with_base(self):
        """One state and one list of groups for both."""
        with _aside(self.state):
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
            with _aside(self.state):
                self.base.step()
        finally:
            for group, rate in zip(self.param_groups, rates, strict=True):
                group["lr"] = rate

    def _make_dense(self, gradients):
        """W moves at every entry by the coupling, and most bases take no sparse gradients."""
        if not isinstance(self.base, torch.optim.SparseAdam):
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None and parameter.grad.is_sparse:
                        gradients[parameter] = parameter.grad
                        parameter.grad = parameter.grad.to_dense()

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
            self._move_adaptively(params, difference, lr_gamma, nu, foreach)
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

    def _move_adaptively(self, params, difference, lr_gamma, nu, foreach):
        for parameter in params:
            state = self.state[parameter]
            if "v_step" not in state:
                state["v_exp_avg"] = torch.zeros_like(parameter)
                state["v_exp_avg_sq"] = torch.zeros_like(parameter)
                state["v_step"] = torch.zeros((), dtype=torch.float32)
        states = [self.state[parameter] for parameter in params]
        adam(
            [state["v"] for state in states],
            [part / nu for part in difference],
            [state["v_exp_avg"] for state in states],
            [state["v_exp_avg_sq"] for state in states],
            [],
            [state["v_step"] for state in states],
            foreach=foreach and not isinstance(lr_gamma, torch.Tensor),
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=lr_gamma,
            weight_decay=0.0,
            eps=1e-8,
            maximize=True,
        )


def _refuse_other_shapes(state):
    """Tensors of a parameter's state have its shape, or are numbers, or the base's own affair."""
    parameters = [p for group in state["param_groups"] for p in group["params"]]
    for number, parameter in enumerate(parameters):
        for key, value in state["state"].get(parameter, {}).items():
            told = key in ("v", "gamma", "exp_avg", "exp_avg_sq", "momentum_buffer", "square_avg")
            if told and value is not None and value.shape != parameter.shape:
                raise ValueError(
                    f"the state is of another model: {key} of parameter {number} has shape "
                    f"{tuple(value.shape)} there, {tuple(parameter.shape)} here"
                )


class _aside:
    """Take V, Γ and their like out of the state while the base works on it.

    Many optimizers set up a parameter only if its state is empty.
    """

    def __init__(self, state):
        self.state = state

    def __enter__(self):
        self.own = [
            (state, {key: state.pop(key) for key in OWN_STATE if key in state})
            for state in self.state.values()
        ]

    def __exit__(self, *_):
        for state, own in self.own:
            state.update(own)


def _as_list(params):
    return [params] if isinstance(params, torch.Tensor) else list(params)


def _check(options):
    """Refuse impossible options with one ValueError."""
    for name in ("lr", "kappa", "nu", "lr_gamma", "threshold"):
        value = options[name]
        if value is None and name == "lr_gamma":
            continue
        positive = name in ("kappa", "nu")
        if not (value > 0 if positive else value >= 0) or value == math.inf:
            bound = "positive" if positive else "at least 0"
            raise ValueError(f"{name} must be {bound} and finite, got {value}")
    if options["coupling"] not in COUPLINGS:
        raise ValueError(f"coupling must be one of {COUPLINGS}, got {options['coupling']!r}")
