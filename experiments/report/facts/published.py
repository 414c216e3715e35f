"""Numbers of other papers: published.json, each cited where the text gives it."""

from pathlib import Path

from experiments.report.results import Record, db, number, percent
from groundfloor.runs import read_json

FILE = Path(__file__).parents[1] / "published.json"


def read():
    """published.json as a Record."""
    return Record(read_json(FILE), FILE.name)


def facts():
    """Texts of what the prose quotes."""
    told = read()
    accuracy, vit, bn = told["accuracy"], told["vit"], told["batchnorm"]
    networks, dessilbi = told["networks"], told["dessilbi"]
    shares = ("functa", "spatial_functa", "lh_nef", "spatial_again")
    return {
        **{f"accuracy_{name}": percent(accuracy[name], 1) for name in shares},
        "accuracy_functa_mnist": percent(accuracy["functa_mnist"]),
        "copies": number(accuracy["copies"], 0),
        "validation_images": number(accuracy["validation_images"], 0),
        "spatial_width": number(accuracy["spatial_width"], 0),
        "slimmed_epochs": number(vit["torch_pruning_epochs"], 0),
        "spatial_functa": db(told["psnr"].row(method="spatial functa")["values"]["1024"], 1),
        "vit_b16": percent(vit["b16"]),
        "svite_flops": percent(vit["svite_flops"], 0),
        "svite_time": percent(vit["svite_time"], 0),
        "slimmed_at_once": percent(vit["torch_pruning_at_once"]),
        "slimmed_after": percent(vit["torch_pruning_after"], 1),
        "slimmed_dense": percent(vit["torch_pruning_dense"], 1),
        "bregman": percent(vit["bregman"], 1),
        "bregman_density": percent(vit["bregman_density"], 1),
        "bregman_dense": percent(vit["bregman_dense"], 1),
        "plain": percent(bn["plain"], 0),
        "batchnorm": percent(bn["batchnorm"], 0),
        "tuned_plain": percent(bn["tuned_plain"], 1),
        "tuned_batchnorm": percent(bn["tuned_batchnorm"], 1),
        "beta": number(bn["beta"], 0),
        "beta_rate": number(bn["rate"], 1),
        "airbench": percent(networks["airbench"]),
        "resnet18": percent(networks["resnet18"], 0),
        "page": percent(networks["page"], 1),
        "page_epochs": number(networks["page_epochs"], 0),
        "filters": number(dessilbi["filters"], 0),
        "grown": percent(dessilbi["grown"]),
        "grown_parameters": number(dessilbi["grown_parameters"]),
        "recombiner_seconds": "{} to {}".format(*told["recombiner_seconds"]),
    }
