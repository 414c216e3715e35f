"""Tables of functa_jax: how well latents hold images, and what latents are good for."""

from experiments.tables.markdown import Column, Table, accuracy

RECONSTRUCTION = (
    Column("numbers", "latent_dim"),
    Column("PSNR, dB", "test_psnr"),
    Column("PCA with as many numbers, dB", "pca_test_psnr"),
    Column("seconds", "train_seconds", 0),
)
GRID = (Column("numbers", "numbers"), *RECONSTRUCTION[1:])
READERS = (
    Column("what is read", "kind"),
    Column("numbers", "numbers"),
    accuracy("validation, %", "val"),
    accuracy("test, %", "test"),
    Column("p (McNemar, latents)", "p", 4),
    accuracy("of its errors also the latents', %", "wrong_like_first"),
    Column("parameters", "parameters"),
    Column("seconds", "seconds", 0),
)
FUNCTIONS = (
    Column("what", "kind"),
    Column("metric", "metric", 3),
    Column("PSNR, dB", "psnr"),
    accuracy("classes read, %", "accuracy"),
)
NOVEL_VIEWS = (
    Column("given views", "views", 0),
    Column("128 latent numbers", "functa"),
    Column("Gaussian prior of all training views", "Wiener"),
    Column("PCA with as many numbers", "PCA"),
    Column("nearest training scene", "nearest"),
    Column("mean of the training scenes", "mean"),
)
QUALITY = (
    Column("until validation has, dB", "target", 0),
    Column("training", "way"),
    Column("seeds that get there", "reached", 0),
    Column("seconds", "seconds", 0),
    Column("outer steps", "steps", 0),
    Column("GFLOP of matrix products", "gflop", 0),
    Column("at the end, dB", "last_psnr"),
)
LBFGS = (
    Column("iterations after the inner loop", "lbfgs_steps"),
    Column("PSNR, dB", "test_psnr"),
    Column("milliseconds of a processor an image", "milliseconds", 0),
)
OLD_CLASSIFIERS = "Accuracies in this file are of an older protocol and are not shown."

PRECISIONS = (
    Column("products", "products"),
    Column("PSNR, dB", "psnr"),
    Column("beside float32, dB", "minus_float32"),
    Column("relative error of the outer gradient", "gradient_error", 6),
)
LATENTS = (
    Table(
        "pca.json",
        "PCA with so many numbers an image: test",
        (Column("data", "data"), Column("numbers", "numbers"), Column("PSNR, dB", "test_psnr")),
    ),
    Table("reconstruction_digits.json", "digits, 32 numbers", RECONSTRUCTION),
    Table(
        "reconstruction_digits_class_loss.json",
        "digits, 32 numbers, trained for the class, too (--class-loss)",
        RECONSTRUCTION,
        note="Both losses are divided by their own values. Beside the table above it: better "
        "pictures, and classes that are read no better (accuracies are in the file).",
    ),
    Table("reconstruction_mnist.json", "MNIST, 64 numbers", RECONSTRUCTION, note=OLD_CLASSIFIERS),
    Table("lbfgs_mnist.json", "MNIST, 64 numbers: the same network, fitted on by L-BFGS", LBFGS),
    Table("reconstruction_mnist_sizes.json", "MNIST, sizes of the latent", RECONSTRUCTION),
    Table("reconstruction_cifar10_cpu.json", "CIFAR-10, one vector", RECONSTRUCTION),
    Table(
        "cifar10_vector_training.json",
        "CIFAR-10, one vector of 256 numbers, a decoder that starts as PCA: validation",
        (
            Column("outer steps", "step"),
            Column("PCA's latents, dB", "val_psnr", at=0),
            Column("1 step", "val_psnr", at=1),
            Column("2 steps", "val_psnr", at=2),
            Column("PCA with as many numbers, dB", "pca_val_psnr"),
            Column("seconds", "seconds", 0),
        ),
        rows="validation",
        note="Seconds beside twenty other jobs; processor time was 384 s in all.",
    ),
    Table(
        "vectors_cifar10.json",
        "What puts a vector above PCA: CIFAR-10, 256 numbers, validation",
        (
            Column("variant", "variant"),
            Column("PSNR, dB", "val_psnr"),
            Column("seconds", "train_seconds", 0),
        ),
    ),
    Table("reconstruction_cifar10_spatial_cpu.json", "CIFAR-10, a grid, Gauss-Newton", GRID),
    Table("reconstruction_cifar10_spatial_gradient.json", "CIFAR-10, a grid, rates", GRID),
    Table(
        "lbfgs_cifar10.json",
        "CIFAR-10, a grid (the released network), fitted on by L-BFGS",
        LBFGS,
    ),
    Table(
        "cifar10_gauss_newton_psnr.json",
        "CIFAR-10, a grid, Gauss-Newton, 3,000 steps: PSNR in dB by inner steps",
        rows="test_psnr_after_steps",
    ),
    Table(
        "inner_steps_digits_spatial.json",
        "What changes of the inner loop buy: digits, 2x2x8 numbers, validation",
        (
            Column("variant", "variant"),
            Column("PSNR, dB", "val_psnr"),
            Column("FLOP to fit an image", "fit_flops"),
            Column("FLOP of an outer step, an image", "outer_flops"),
        ),
        rows="rows",
    ),
    Table("latent_classification_digits.json", "More fitting, better classes?", rows="rows"),
    Table(
        "latent_readers_grid.json",
        "CIFAR-10: one ConvNet reads the class from 8x8 cells",
        READERS,
        rows="rows",
    ),
    Table(
        "latent_readers_few.json",
        "CIFAR-10: the same with few labels, as many of each class; a draw of them a seed",
        (
            READERS[0],
            Column("labels", "labels"),
            accuracy("ConvNet, test, %", "test"),
            accuracy("SVM, test, %", "svm"),
            Column("seconds", "seconds", 0),
        ),
        rows="rows",
    ),
    Table(
        "mirrored_grids.json",
        "CIFAR-10: latents of mirrored images by a fixed map, instead of encoding them",
        (
            Column("latents", "latents"),
            Column("R²", "r2", 4),
            Column("test PSNR of the mirrored image, dB", "test_psnr"),
        ),
    ),
    Table(
        "latent_readers_decoded.json",
        "CIFAR-10: one ConvNet reads the class from pictures that latents and PCA give",
        (READERS[0], Column("PSNR, dB", "psnr"), *READERS[1:]),
        rows="rows",
        note="A small reader for a CPU without bfloat16: --seeds 0 --steps 423 --width 0.5, that "
        "is 9 epochs of half the widths of cifar10-94; one core, two such jobs side by side.",
    ),
    Table(
        "single_images_mnist.json",
        "Single images of MNIST: a SIREN each, by its size",
        (
            Column("pixels a side", "size"),
            Column("width", "width"),
            Column("depth", "depth"),
            Column("parameters", "parameters"),
            Column("PSNR, dB", "psnr"),
        ),
        rows="grid",
    ),
    Table(
        "start_scale.json",
        "Single images: initial weights times a scale",
        (
            Column("images", "images"),
            Column("scale", "scale"),
            Column("rate", "rate", 4),
            Column("PSNR after 500 steps, dB", "psnr"),
            Column("steps to 40 dB", "steps_to_40_dB", 1),
        ),
        rows="rows",
    ),
    Table(
        "functions_voxels.json",
        "Solids of 64 classes, occupancies of 32x32x32 voxels, 128 numbers; metric: IoU",
        FUNCTIONS,
        rows="rows",
    ),
    Table(
        "functions_stacks.json",
        "Solids that digits sweep, 28x28x28 voxels, 128 numbers; metric: IoU",
        FUNCTIONS,
        rows="rows",
    ),
    Table(
        "functions_sphere.json",
        "Relief on a sphere; metric: PSNR by areas, dB",
        FUNCTIONS,
        rows="rows",
    ),
    Table(
        "functions_sound.json", "Vowels; metric: signal-to-noise ratio, dB", FUNCTIONS, rows="rows"
    ),
    Table(
        "functions_video.json",
        "Films of moving digits, 8x32x32; metric: PSNR, dB",
        FUNCTIONS,
        rows="rows",
    ),
    Table(
        "functions_scenes.json",
        "Novel views of scenes, 32x32, from so many given ones; dB",
        NOVEL_VIEWS,
        rows="rows",
    ),
    Table(
        "functions_scenes_hour.json",
        "Novel views of scenes after an hour; dB",
        NOVEL_VIEWS,
        rows="rows",
    ),
    Table("bench_functa.jsonl", "Speed of an outer step beside a plain haiku version"),
    Table(
        "bench_streams.jsonl",
        "Speed of training on CIFAR-10 streamed from its files, beside images in memory",
    ),
    Table(
        "time_to_quality_digits.json",
        "Seconds of training until a quality is reached: digits, 32 numbers",
        QUALITY,
        rows="rows",
    ),
    Table(
        "imagenet.json",
        "ImageNet at 256x256 on 8 hosts of 8 devices like this one, by arithmetic",
        (
            Column("device", "device"),
            Column("images of a step on each", "device_batch", 0),
            Column("seconds a step", "step_seconds"),
            Column("GB a step", "step_gigabytes", 1),
            Column("hours, 20 epochs", "training_hours", 0),
            Column("hours of export", "export_hours", 0),
            Column("MB read, a second and host", "read_megabytes_a_second_and_host", 1),
            Column("MB of gradient a step", "gradient_megabytes_a_step", 1),
        ),
        rows="rows",
    ),
    Table(
        "bfloat16_digits.json",
        "--precision: digits, 32 numbers, validation",
        PRECISIONS,
        rows="rows",
    ),
    Table(
        "bfloat16_cifar10-grid.json",
        "--precision: CIFAR-10's grid after 600 steps, validation",
        PRECISIONS,
        rows="rows",
    ),
)

TASKS = (
    Table("tasks_digits.json", "digits, 32 numbers", rows="tasks"),
    Table("tasks_mnist.json", "MNIST, 64 numbers", rows="tasks"),
    Table("tasks_digits-spatial.json", "digits, a grid of 2x2x8 numbers", rows="tasks"),
    Table("tasks_cifar10-spatial-cpu.json", "CIFAR-10, a grid of 8x8x16", rows="tasks"),
    Table("compression_cifar10.json", "Compression of CIFAR-10: all 10,000 test images"),
    Table(
        "compression_cifar10.json",
        "Compression of CIFAR-10: latents beside what others have published",
        rows="against",
    ),
    Table(
        "compression_cifar10.json",
        "Compression of CIFAR-10: processor time of 256 images, beside other jobs",
        rows="times",
    ),
    Table(
        "compression_cifar10.json",
        "Compression of CIFAR-10: what each part of the codec buys, on validation",
        rows="parts",
    ),
)
