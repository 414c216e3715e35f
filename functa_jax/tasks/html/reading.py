"""What to look for in each task's table and figures."""

HIGH, LOW = "high", "low"
# Column -> which end of it is good; "*": all columns of numbers.
BEST = {
    "classify": {"test %": HIGH, "unseen %": HIGH},
    "generate": {"FID": LOW, "class as asked (%)": HIGH},
    "inpaint": {"*": HIGH},
    "superresolve": {"*": HIGH},
    "denoise": {"*": HIGH},
    "interpolate": {},
    "retrieve": {"mAP": HIGH, "precision@1": HIGH, "precision@5": HIGH, "precision@10": HIGH},
    "compress": {},
}
BOUNDS = ("train images", "of test images")  # rows of generate that are no rivals
CAPTIONS = {  # beginning of a figure's name -> sentence; the longest that fits is taken
    "classify": "Test accuracy of every classifier with its 95 % interval (filled: chosen without "
    "the test images), and which classes the one chosen on latents confuses: read the dark cells "
    "off the diagonal.",
    "generate": "New images of each class from the diffusion on latents: a row is a class "
    "where images have labels, and all of a row should be that class and differ from each other.",
    "generate_resolutions": "The same samples decoded at 1, 4 and 16 times the resolution that the "
    "network was trained at: edges stay sharp where it learned from enough pixels; from 8x8 scans, "
    "there are ripples between the pixels, as nothing taught it what lies there.",
    "generate_neighbours": "Samples above the train images nearest to them: a sample that equals "
    "one of these is a copy.",
    "generate_distances": "How far samples and test images are from the nearest train image: "
    "samples are new where the two histograms lie on each other, copies where theirs is left.",
    "inpaint": "Hidden pixels are blue in the second row; below it, what each method puts there. "
    "Compare with the first row.",
    "superresolve": "The small picture (second row) made large by each method; the first row is "
    "what it was made from.",
    "superresolve_large": "Larger than any original, so nothing can be measured: at 28x28 and "
    "above strokes are smoother than bicubic's; at 8x8 the network never saw what lies between "
    "pixels, and bicubic is better than its ripples.",
    "denoise": "The noisy picture (second row) and what each method makes of it: noise that is "
    "left and strokes that are lost are both errors.",
    "interpolate": "From one image to another through latents, and through pixels, where both are "
    "seen at once in the middle.",
    "retrieve_neighbours": "A query of each class and the train images nearest to it, by latents "
    "and by pixels: a green frame is the query's class, an orange one another.",
    "retrieve_classes": "How well each class is found again (mean average precision): where "
    "bars of latents and pixels differ, the distance has changed what is alike.",
    "retrieve_map": "t-SNE maps of the same test images by latents, PCA and pixels: classes that "
    "stand apart can be told apart by neighbours. Distances between groups mean nothing.",
    "compress_rate": "More dB at fewer bits is better: up and left. What is shared by all files is "
    "left out at the left and counted at the right.",
    "compress_pictures": "The same images at nearly the same number of bits: look for what each "
    "method loses first.",
}


def caption(name):
    """The sentence on a figure (a file's name), or its name in words."""
    stem = name.rpartition(".")[0]
    fitting = [start for start in CAPTIONS if stem.startswith(start)]
    return CAPTIONS[max(fitting, key=len)] if fitting else stem.replace("_", " ")


def best_rows(task, rows):
    """{column: index of the best of `rows`} of a task's table (dicts); the first of equals.

    Rows that are bounds and no rivals are left out, and so are columns in which nothing is better.
    """
    ends = BEST.get(task, {})
    rivals = [i for i, row in enumerate(rows) if not str(next(iter(row.values()))).endswith(BOUNDS)]
    found = {}
    for column in dict.fromkeys(column for row in rows for column in row):
        values = {i: rows[i].get(column) for i in rivals}
        numbers = {
            i: v
            for i, v in values.items()
            if isinstance(v, int | float) and not isinstance(v, bool)
        }
        end = ends.get(column, ends.get("*"))
        if end and len(numbers) > 1:
            best = (max if end == HIGH else min)(numbers.values())
            found[column] = next(i for i, value in numbers.items() if value == best)
    return found


def interval(row, column):
    """ " [low, high]" or " ± spread" of a value, where its row has one; else ""."""
    if column == "test %" and row.get("low") is not None:
        return f" [{row['low']:.2f}, {row['high']:.2f}]"
    spread = row.get(f"{column} ±")
    return "" if spread is None else f" ± {spread:.2f}"
