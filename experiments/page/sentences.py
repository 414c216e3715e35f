"""What to see in each picture of experiments/results.

Chapters hold beginnings of files' names; of several that fit, the longest is a picture's.
"""

CHAPTERS = {
    "Images become latents": {
        "reconstructions": "The first test images, as latents and as PCA of as many numbers keep "
        "them; MNIST once more at eight times the size, CIFAR-10's errors times ten.",
        "reconstruction_mnist_sizes": "At every size one latent per image rebuilds MNIST's test "
        "images several dB better than PCA with as many numbers.",
        "vectors_cifar10": "A vector for CIFAR-10: decoders that begin as PCA (blue, yellow) stay "
        "near it and gain a little with the first inner step; one of tokens begins far below.",
        "inner_steps_digits_spatial": "Left, at equal outer steps Gauss-Newton steps win; right, "
        "what each costs: the dB at the end against the operations of an outer step.",
        "start_scale": "Larger initial weights reach the dashed 40 dB hardly sooner on 32x32 "
        "images, though they end far above it; on photographs 1.5 and 2 are best.",
        "latent_classification_digits": "Left, more fitting steps do not make classes easier to "
        "read, though images are rebuilt better. Right, latents need as many training images as "
        "pixels and PCA.",
        "latent_readers_few": "With few labels latents and PCA of patches are read alike by a "
        "ConvNet (three draws); an SVM reads latents a little better from 200 labels on.",
        "compression_cifar10": "Up and left is better. Latents (blue) lie on or above PCA of "
        "blocks and above JPEG, JPEG 2000 and WebP; with headers counted (right) image formats "
        "lose most.",
    },
    "A Vision Transformer at nine densities": {
        "prune_cifar10-small_accuracy": "A network that has converged: at a tenth of the weights a "
        "supermask keeps most, then magnitude with what stays fitted anew; plain magnitude (black) "
        "has lost half of its accuracy.",
        "prune_cifar10-small_difference": "Points above magnitude with their deviation over three "
        "seeds: fitting anew gains at all three, supermasks at 0.1 and 0.3; DessiLBI and LoRA's "
        "scores lose.",
        "prune_recovery_cifar10-small": "At density 0.3, a fit of the weights that stay is worth "
        "more than steps are: right after it magnitude has more than after five times the passes.",
        "prune_cifar10-small_layers": "Magnitude, DessiLBI and supermasks leave nearly the same "
        "densities to the layers; LoRA's scores leave most to few layers.",
        "prune_cifar10-small_cost": "Zeros alone make files smaller (left) and nothing faster: no "
        "method here removes whole parts.",
        "prune_cifar10-groups_accuracy": "What can be cut out of the converged network, after "
        "recovery: compensated heads and neurons lie 3 to 6 points below zeros anywhere (black), "
        "penalties far below.",
        "prune_cifar10-groups_difference": "Points below magnitude, which keeps all shapes, with "
        "95 % intervals of the test images (one seed).",
        "prune_cifar10-groups_groups": "Penalties take heads first, at 0.3 all of them (a "
        "convolution is before the blocks); compensation keeps those of the last blocks.",
        "prune_cifar10-groups_layers": "Zeros anywhere spread evenly; what is cut out leaves whole "
        "attentions without a weight.",
        "prune_speed_cifar10-small": "Up and left is better; each engine, the dense network "
        "and what was cut: ONNX Runtime's int8 makes the dense network faster at no loss, and the "
        "cut ones lie on its front.",
        "prune_cifar10-first_accuracy": "A network that has not converged. Each panel has one "
        "family of methods in colour and all others in grey; the insets show the upper end. Down "
        "to density 0.4 magnitude (black), gradual, l1 and DessiLBI stay within a point of the "
        "dense network; below that magnitude is ahead.",
        "prune_cifar10-first_difference": "Points above magnitude at the same density, with 95 % "
        "intervals: wherever a bar crosses the black line, a method cannot be told from magnitude.",
        "prune_cifar10-first_cost": "Zeros alone make files smaller (left) and nothing faster; "
        "removed groups make the network really smaller: time and arithmetic fall with accuracy.",
        "prune_digits_accuracy": "On digits, all methods, three seeds: at a tenth of the weights "
        "refitted magnitude, supermask, SynFlow and LoRA's scores are far above magnitude (black); "
        "from 0.3 on half or more are within a point of the unpruned network.",
        "prune_digits_difference": "On digits, points above magnitude with their deviation over "
        "three seeds: movement is behind from 0.2 on, whole parts fall off below one half.",
        "prune_digits_cost": "On digits, what a network takes: compensated heads and neurons keep "
        "most accuracy for their arithmetic; latency falls where parts are removed.",
        "prune_digits_groups": "Which heads and neurons structured methods keep on digits, block "
        "by block: neurons go long before heads, and those of the first block last.",
        "prune_digits_layers": "Which layers keep their weights on digits, at each density of the "
        "whole: what ranks all weights together (magnitude, l1, DessiLBI) leaves nearly the same "
        "pattern, what ranks within a layer an even one, and whole parts go layer by layer.",
    },
    "Structure while training: DessiLBI": {
        "dessilbi_bases_mnist": "Left, test error of W, of W on the support of Γ and of Γ itself; "
        "right, how much of each layer is in the support. With Adam's rate as its clock Γ stays "
        "empty; with a clock of its own it fills, whatever moves W.",
        "dessilbi_density_mnist": "One path serves all densities, but the order of entry (red) is "
        "worse at low density than the magnitude of DessiLBI's own weights (blue), which in turn "
        "beats that of SGD's (black).",
        "dessilbi_filters": "Left, norms of 120 filters in training: DessiLBI lifts a few and lets "
        "the others go to zero; SGD (grey) keeps all. Right, what excites each filter most; black: "
        "gone.",
        "dessilbi_growing_mnist": "A network that starts small and widens the layers whose filters "
        "all enter: parameters after each epoch, three seeds.",
    },
    "BatchNorm and the landscape": {
        "landscape_landscape": "A column a rate: loss, change of the gradient and effective β "
        "along the gradient, with BatchNorm (blue) and without it (orange).",
        "landscape_digits_landscape": "A column a rate. At small rates the loss along the gradient "
        "stays in a narrow band with BatchNorm (blue) and in a wide one without (orange); at the "
        "largest both are alike, and β follows the rate, not BatchNorm.",
        "landscape_rates": "Which learning rates can be used: mean accuracy and its spread; a "
        "cross is a rate at which some seeds diverge.",
        "landscape_VGG_Loss_Landscape": "The course's band of the loss over models of several "
        "rates: narrower and lower with BatchNorm wherever the colours part.",
        "landscape_VGG_Grad_Pred": "How much the gradient changes from step to step, over models "
        "of several rates.",
        "landscape_VGG_Beta_Smooth": "The change of the gradient over the distance moved: the "
        "bands lie on each other, so that BatchNorm does not change it.",
        "landscape_digits-edge-adam_edge": "The same for Adam, whose edge is that of the "
        "preconditioned curvature: met early at some rates, then far away as the loss falls.",
        "landscape_cifar10-norms_landscape": "The same with every normaliser: from the hundredth "
        "step on bands and β of all five lie on each other, and β falls as the rate rises.",
        "landscape_cifar10-edge_edge": "400 steps of SGD on CIFAR-10: at every rate the largest "
        "eigenvalue of 512 images settles near the edge, with BatchNorm, which comes from above, "
        "and without; batch sharpness stays at half of it.",
        "landscape_edge": "Curvature as a share of what the rate can bear (dashed: the edge of "
        "stability). Without normalisation it rises to the edge and stays near it; with BatchNorm "
        "it falls below. Below: the largest eigenvalue times the square of all weights.",
    },
    "How fast latents become good": {
        "time_to_quality": "PSNR of validation images against time and operations, a line a seed: "
        "DeepMind's settings with our step keep up until 28 dB, then take 1.7 times the preset's "
        "time; with the plain step they take ten times as long.",
    },
    "Functions other than images": {
        "functions_scenes_hour.gif": "Around six test scenes: above, the truth; below, what four "
        "views tell after an hour of training.",
        "functions_scenes.gif": "Around six test scenes: above, the truth; below, what four views "
        "tell after ten minutes of training.",
        "functions_scenes_hour": "Views of three test scenes that nobody gave, from four given "
        "ones, after an hour of training: the functa has closed bodies with shading and no edges; "
        "linear rivals, which know the cameras, have edges and noise.",
        "functions_scenes": "Views of three test scenes that nobody gave: what the functa makes of "
        "four given views, beside linear rivals, which know the cameras. After ten minutes of "
        "training it has the mass and the colour, not yet the details.",
        "functions": "Test functions, and what latents and their rivals with as many numbers make "
        "of them.",
    },
    "The parts of a network": {
        "study_cifar10-cpu_accuracy": "One thing changed at a time, each at its own best rate: "
        "dots left of the dotted line are worse than the base. No BatchNorm costs most.",
        "study_cifar10-cpu_cost": "The same accuracies against size and time: the names mark what "
        "is best, worst or apart.",
        "study_cifar10-cpu_confusion": "The test images of each class by what the best of these "
        "short trainings says: cats are taken for dogs, trucks for cars.",
        "study_cifar10-94_training": "Accuracy on training batches: two million parameters, "
        "fourteen epochs, 94 % of test.",
        "study_cifar10-94_calibration": "That network is less sure than it is right: labels were "
        "smoothed, and six views averaged.",
        "study_cifar10-94_confusion": "The test images of each class by what it says: cats and "
        "dogs are most of its mistakes.",
        "study_cifar10-94_filters": "Its first convolution, which is computed, not learned: the "
        "principal directions of 2x2 pixels, each with both signs.",
        "study_cifar10-94_maximisation": "Images that raise a class (first row) or a channel most.",
        "study_cifar10-94_mistakes": "Its most confident mistakes: above each image what it says, "
        "below what is true.",
        "study_cifar10-94_surface": "The loss around it on a plane of random directions.",
        "study_cifar10-base_training": "Accuracy on training batches of the base: half a million "
        "parameters, nine epochs.",
        "study_cifar10-base_confusion": "The test images of each class by what the base says: of "
        "its mistakes cats and dogs are the most.",
        "study_cifar10-base_filters": "The base's first convolution, which is computed, not "
        "learned: the principal directions of 2x2 pixels, each with both signs.",
        "study_cifar10-base_maximisation": "Images that raise a class of the base (first row) or a "
        "channel: parts of objects for some classes, stripes and textures for channels.",
        "study_cifar10-base_mistakes": "The base's most confident mistakes: above each image what "
        "it says, below what is true. Some labels are doubtful.",
        "study_cifar10-base_surface": "The loss around the base on a plane of random directions: "
        "one bowl, the network at its lowest point.",
    },
    "Robust statistics": {
        "linear_path": "Coefficients against time for scikit-learn's diabetes data: the lasso and "
        "LBI let columns in in nearly the same order, but LBI's have their full size at once.",
        "robust_labels_cifar10": "CIFAR-10: how well each method ranks wrong labels first (left), "
        "and accuracy after they are left out (right).",
        "robust_labels": "MNIST with wrong labels of five kinds: how well each method ranks them "
        "first (left), and the accuracy of neighbours after they are left out (right).",
        "robust_fewshot": "One or five labels a class and many images without: who gains from the "
        "unlabelled ones, by three kinds of features.",
        "robust_knockoffs": "False discoveries stay under the dotted line for all knockoffs; the "
        "cross-validated lasso goes far beyond. Right, what is found.",
        "robust_lista": "Learned thresholds leave ISTA and FISTA far behind at sixteen layers or "
        "steps; away from the codes they were trained on (right) the gain shrinks, and FISTA "
        "at its best penalty is ahead on codes ten times larger.",
        "robust_masking": "Outliers that hide each other: masked (not found) and swamped (good "
        "points accused) in %, by method; with leverage all fail alike from a tenth of outliers "
        "on.",
        "robust_msplit": "Coefficients of one seed as pictures, beside the truth (two lesions "
        "and a ring): red raises and blue lowers the prediction; the sparser a method, the more "
        "is white.",
        "robust_pca": "Digits with wrong pixels: low rank plus sparse rebuilds them best where its "
        "weight is chosen by the clean data, and marks wrong pixels (last row) about as well as a "
        "PCA's residual.",
        "robust_ranking": "How well rankings survive wrong answers: with graded answers robust "
        "losses keep the order until two in five are wrong.",
    },
}


def chapter_and_sentence(name):
    """(chapter, sentence) of a picture's file name, or None."""
    names = (name, _without_preset(name))
    fitting = [
        (len(start), chapter, sentence)
        for chapter, sentences in CHAPTERS.items()
        for start, sentence in sentences.items()
        if any(each.startswith(start) for each in names)
    ]
    return max(fitting)[1:] if fitting else None


def _without_preset(name):
    """landscape_digits-edge_rates.png -> landscape_rates.png: one sentence for all presets."""
    first, _, rest = name.partition("_")
    return f"{first}_{rest.partition('_')[2]}" if first == "landscape" else name
