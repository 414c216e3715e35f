"""Every method by name: a new one is a file here and a line in this dict."""

from prune_torch.methods.compensated import Compensated, Variance
from prune_torch.methods.control import NormsOnly, Random, RandomSearch, Unpruned
from prune_torch.methods.dessilbi import DessiLBIPath
from prune_torch.methods.envelope import GroupEnvelope
from prune_torch.methods.gradual import Gradual
from prune_torch.methods.l1 import ProximalL1
from prune_torch.methods.lora import LoRAPrune
from prune_torch.methods.lottery import Lottery
from prune_torch.methods.magnitude import ERK, Layerwise, Magnitude, MagnitudeFloor, MagnitudeLate
from prune_torch.methods.movement import MovementHard, MovementSoft, Supermask
from prune_torch.methods.oats import OATS
from prune_torch.methods.outliers import SparseGPTOWL, WandaOWL
from prune_torch.methods.pq_index import PQIndex
from prune_torch.methods.refit import MagnitudeRefit, TwoFourRefit, WandaRefit
from prune_torch.methods.relevance import Relevance
from prune_torch.methods.rigl import SET, RigL
from prune_torch.methods.snip import SNIP
from prune_torch.methods.sparsegpt import SparseGPT
from prune_torch.methods.steered import SteeredDessiLBI, SteeredGroupLasso, SteeredL1
from prune_torch.methods.structured import BlockLasso, Blocks, GroupLasso, Heads, Neurons
from prune_torch.methods.synflow import SynFlow
from prune_torch.methods.two_four import TwoFour
from prune_torch.methods.wanda import Wanda

METHODS = {
    "random": Random,
    "random-search": RandomSearch,
    "norms-only": NormsOnly,
    "unpruned": Unpruned,
    "magnitude": Magnitude,
    "magnitude-late": MagnitudeLate,
    "magnitude-floor": MagnitudeFloor,
    "magnitude-refit": MagnitudeRefit,
    "layerwise": Layerwise,
    "erk": ERK,
    "gradual": Gradual,
    "lottery": Lottery,
    "pq-index": PQIndex,
    "l1": ProximalL1,
    "l1-steered": SteeredL1,
    "group-lasso": GroupLasso,
    "group-lasso-steered": SteeredGroupLasso,
    "group-envelope": GroupEnvelope,
    "block-lasso": BlockLasso,
    "dessilbi": DessiLBIPath,
    "dessilbi-steered": SteeredDessiLBI,
    "movement": MovementHard,
    "movement-soft": MovementSoft,
    "lora": LoRAPrune,
    "supermask": Supermask,
    "snip": SNIP,
    "relevance": Relevance,
    "synflow": SynFlow,
    "wanda": Wanda,
    "wanda-owl": WandaOWL,
    "wanda-refit": WandaRefit,
    "sparsegpt": SparseGPT,
    "sparsegpt-owl": SparseGPTOWL,
    "oats": OATS,
    "rigl": RigL,
    "set": SET,
    "heads": Heads,
    "neurons": Neurons,
    "blocks": Blocks,
    "variance": Variance,
    "compensated": Compensated,
    "2-of-4": TwoFour,
    "2-of-4-refit": TwoFourRefit,
}
