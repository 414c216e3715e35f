"""How few bits latents take, and how fast their network trains."""

from experiments.report.results import db, holds, number


def facts(results):
    """Texts and tables of bits and speed."""
    return {**compression(results), **speed(results)}


def compression(results):
    """Bits per pixel of CIFAR-10."""
    found = results("compression_cifar10.json")
    rows = found["against"]
    point = next(row for row in rows.rows(published="RECOMBINER") if row["bits/pixel"] == 1.531)
    blocks = point["PCA of 8x8 blocks (dB)"]
    holds(
        point["latents (dB)"] > blocks > point["PSNR (dB)"], "latents > PCA of blocks > RECOMBINER"
    )
    coin = max(row["latents ahead (dB)"] for row in rows.rows(published="COIN++"))
    low = rows.rows(published="RECOMBINER")[0]
    holds(low["latents ahead (dB)"] < 0, "RECOMBINER is ahead at its lowest rate")
    parts = found["parts"]
    psnr = "PSNR at 1 bits/pixel (dB)"
    return {
        "bits": number(point["bits/pixel"]),
        "bits_latents": db(point["latents (dB)"]),
        "bits_blocks": db(blocks),
        "bits_ahead": db(point["latents (dB)"] - blocks, 1),
        "bits_recombiner": db(point["PSNR (dB)"]),
        "bits_low": number(low["bits/pixel"]),
        "bits_low_behind": db(-low["latents ahead (dB)"], 1),
        "bits_coin": db(coin, 1),
        "bits_milliseconds": number(found["times"].row(timed="latents")["encode, ms/image"], 0),
        "bits_parts": [[row["part"], number(row[psnr])] for row in parts],
        "bits_first": db(parts[0][psnr], 1),
        "bits_decorrelated": db(parts[1][psnr], 1),
        "bits_rounding": db(parts[2][psnr] - parts[1][psnr], 1),
        "bits_context": db(parts[3][psnr] - parts[2][psnr], 1),
        "bits_adapted": db(parts[4][psnr] - parts[3][psnr], 1),
        **trained_for_its_rate(rows.rows(published="CST (Cheng et al. 2020)")),
    }


def trained_for_its_rate(rows):
    """How far a convolutional codec that was trained for its rate is ahead of latents, at its
    published rates that they reach, in dB."""
    ahead = {row["bits/pixel"]: -row["latents ahead (dB)"] for row in rows}
    holds(min(ahead.values()) > 0, "CST is ahead of latents at its rates")
    return {
        "bits_cst_rates": " and ".join(number(rate) for rate in ahead),
        "bits_cst": " and ".join(db(value, 1) for value in ahead.values()),
    }


def speed(results):
    """How many times as fast an outer step is as the plain version."""
    ratios = [row["ratio"] for row in results("bench_functa.jsonl")]
    return {"speed_least": number(min(ratios), 1), "speed_most": number(max(ratios), 1)}
