"""Whether a sweep's data, network and flags fit each other, before anything is made."""

from groundfloor import checks
from groundfloor.errors import UserError
from groundfloor.runs import counted
from prune_torch import density
from prune_torch.methods import METHODS

LEARNED = ("dense_steps", "dense_rate", "recipe", "weights", "pretrained", "retrain")


def refuse_unfit(config, bench):
    """UserError, in one line, unless the network can learn these images and be pruned as asked."""
    data, model = bench.data_set, bench.model
    data.require(classes=2, val=1, test=1)
    side, patch = model.patch_embed.img_size[0], model.patch_embed.patch_size[0]
    if side % patch or side < 1:
        raise UserError(f"--img-size {side} is no multiple of --patch-size {patch}")
    if model.num_classes != data.num_classes:
        raise UserError(
            f"{data.name} has {counted(data.num_classes, 'class', 'classes')}, "
            f"the model gives {model.num_classes}"
        )
    if config.from_sparse is not None:
        inside = density.prunable(model, config.prunable)
        outside = {n: p for n, p in density.prunable(model, "matrices").items() if n not in inside}
        if any(not parameter.all() for parameter in outside.values()):
            raise UserError(
                f"{config.from_sparse} was made with --prunable matrices: give it again"
            )
    channels, taken = data.train.images.shape[3], bench.task.pixels.channels
    if channels not in (1, taken):  # grey is shown to all channels alike
        flag = "--in-chans" if "in_chans" in config.model_args else "--model-args in_chans"
        raise UserError(
            f"{data.name} has {counted(channels, 'channel')}, the model takes {taken} "
            f"({flag} {channels})"
        )
    count = len(data.train)
    what = f"{data.name} has only {counted(count, 'train image')}"
    checks.refuse_beyond("batch_size", config.batch_size, count, what)
    most = model.patch_embed.num_patches // 2
    what = f"of {model.patch_embed.num_patches} patches a block can merge {most} at most"
    checks.refuse_beyond("merge", max(config.merge or (0,)), most, what)
    given = any(not METHODS[method].chooses for method in config.methods)
    try:
        for level in config.densities if given else ():
            density.budget(model, level, config.prunable)
    except ValueError as error:
        raise UserError(str(error)) from None


def beyond(cell):
    """Why a sparse network cannot have this density, in words, or None: it has fewer weights."""
    most = sum(int(mask.sum()) for mask in cell.held.values())
    if not cell.held or cell.count <= most:
        return None
    return f"the network of --from-sparse has {most:,} prunable weights left"


def merged_tokens(config, model):
    """Numbers of tokens for the curve of token merging: the flag's, or those of (0, 1, 2, 4, 8)
    that this model has the patches for."""
    if config.merge is not None:
        return config.merge
    return tuple(r for r in (0, 1, 2, 4, 8) if r <= model.patch_embed.num_patches // 2)


def say_resized(bench):
    """Print a line where images of the data set are not of the size that the network takes."""
    side, (height, width) = bench.task.pixels.side, bench.data_set.train.images.shape[1:3]
    if (height, width) != (side, side):
        print(f"the network takes {side}x{side} pixels: images of {height}x{width} are resized")


def say_idle(config, usual):
    """Print a line for each flag unlike `usual` that changes nothing beside the others."""
    chosen = all(METHODS[method].chooses for method in config.methods)
    sparse = config.from_sparse is not None  # a network as it is, with its weights
    rules = (
        (config.ray is not None, ("jobs", "device"), "with --ray"),
        (config.weights is not None and not sparse, ("pretrained",), "with --weights"),
        (sparse, ("model", "model_args", "mean_pool", *LEARNED), "with --from-sparse"),
        (not (sparse or config.dense_steps), ("dense_rate", "recipe"), "with --dense-steps 0"),
        (chosen, ("densities",), "with methods that choose their own"),
    )
    checks.say_idle(config, usual, rules)
