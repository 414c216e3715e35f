"""What a finished training on scenes has beside that on other functions: novel views."""

from functa_jax.scenes import novel, pictures, views


def write(run, functa, data):
    """{"novel_views": of `novel.compare`} for the summary of a Run; figures/novel_views.png and
    figures/turntable.gif."""
    print("rendering novel views of the test scenes from few given ones", flush=True)
    others = novel.Rivals(data, functa.config.numbers) if data.test.shared else None
    compared = novel.compare(functa, data, others)
    pictures.novel_views(run.path("figures/novel_views.png"), functa, data, others)
    instances = views.INSTANCES if data.name == "scenes" else None
    pictures.turntable(run.path("figures/turntable.gif"), functa, data, instances=instances)
    return {
        "novel_views": {str(count): results for count, results in compared.items()},
        "novel_views_is": "mean over pictures of PSNR in dB, by the number of given views",
    }


def lines(summary):
    """Lines of the closing table: PSNR of novel views from few given ones."""
    found = summary.get("novel_views", {})
    return [
        f"novel views from {count} given    "
        + "  ".join(f"{name} {psnr:.2f}" for name, psnr in results.items())
        + " dB"
        for count, results in found.items()
    ]
