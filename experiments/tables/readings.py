"""What the tables say, in words: one text a chapter of experiments/results/README.md.

A statement here is one that the table below it shows; whoever renews a result file reads it again.
"""

RECONSTRUCTION = """
PSNR is the mean of per-image PSNR over the whole test split after 3 inner steps. One vector an
image is far above PCA with as many numbers on digits and MNIST. Three steps do not find what
MNIST's 64 numbers hold: L-BFGS from there, with the same network, has 29.7, 30.5 and 31.1 dB after
5, 10 and 20 iterations (27.9 before), at 4 to 9 times the time of a fit, while ten of the learned
steps fall back to 25.7; so the aim of 30 dB is met without more training. On the released grid of
CIFAR-10 (learned rates, not Gauss-Newton) it finds 0.3 dB. The first vector row of CIFAR-10 is a
small network trained for minutes: it proves the path. A decoder that starts as PCA is 1.0 dB above
it after 1,000 steps of 8 images and 1.1 after 4,000 (validation). Grids (spatial functa, width 48)
trained for 75 and, with Gauss-Newton, 83 to 96 minutes on one core beside other jobs; the first
fell once by 5 dB and went back, the others (three seeds) did not. The paper has 39.0 dB at width
256. The aim of 39.5 dB within an hour of two cores is missed: 39.11 ± 0.02, and 39.35 with ten
steps a fit. A fit by Gauss-Newton takes four times as long. More fitting does not classify better.
Read cell by cell by a ConvNet, CIFAR-10's grid gives 86.3 % of the classes (49,000 labels, 27
minutes of one core that other jobs shared, one seed); the same reader of PCA of patches with as
many numbers has 86.1 % (p 0.40), and 65 % of its errors are the latents' too: a grid of latents
holds the class no better and no worse than linear coefficients do. Nor do latents help where labels
are few (three draws): with 50, 200 and 1,000 labels the ConvNet has 23.5, 33.6 and 46.1 % from
latents, 25.5, 34.4 and 45.7 from PCA (deviations of 0.2 to 1.8); an SVM has 22.1, 29.1 and 38.0 %
from latents, 22.8, 27.9 and 35.2 from PCA. (The patches themselves are not yet run.) A mirrored
image's latents are nearly a linear map of the image's: one map of each mirrored cell explains 98.2
% of their variance, one of 3x3 cells 99.3 %, but pictures lose 6.2 and 3.2 dB of 38.4: copies are
cheap, not free. Larger initial weights bring single 32x32 images to 40 dB hardly sooner (46 to 52
steps with, 51 without), but far beyond it (62 dB and 107 at 2 after 500 steps); photographs gain 3
dB at 1.5 and 2 and lose at 2.5 and 3, with rates chosen on CIFAR-10. Not yet run, for a GPU:
cifar10, cifar10_spatial, celeba64. Functions other than images, minutes of training: vowels (in
windows that begin with a glottal pulse) are ahead of PCA and of the lowest cosines, fields on a
sphere ahead of spherical harmonics and PCA. Solids of 64 classes are ahead of PCA in dB and behind
it in IoU, as thin parts stay below one half; stacks are behind in both. Films are 0.3 dB behind
PCA, and their digits are read far better from latents. Novel views of scenes after an hour (one
seed) are ahead of all linear rivals from two views on, behind from one; after ten minutes (three
seeds) they are behind them. Speed: of an outer step its matrix products, each alone at its own
shape, take 98, 66 and 81 % (two cores with AVX2); with 64 pixels they have 64 rows, where calls
count as well as products. Until November 27 gradients of weights were sums over images and points,
two dimensions, for which XLA transposes activations first: that took a third of a step, and half of
a grid's. To 31 dB of digits ours takes a tenth of the time of DeepMind's settings with the plain
step (to 28 dB a quarter); the aim, a fifteenth, is missed. Read from its files as training goes on
CIFAR-10 was seen at 0.98 of the rate in memory (grids; 0.80 with the smallest network, as two cores
also decode), measured before that. With products of bfloat16 operands (--precision bfloat16, all
else in float32) three trainings end 0.00 ± 0.01 dB from float32's on digits and 0.00 ± 0.08 on
CIFAR-10's grid (600 steps), though the gradient of a batch near their end is off by 8 and 12 %.
"""

PRUNING = """
CIFAR-10, a network that has converged (83.7 %, 471,786 parameters; three seeds of batches and draws
from one dense network, 250 steps a cell): at a tenth of the weights a supermask keeps 57.2 %,
magnitude with what stays fitted anew 50.3 (40.3 before any step), magnitude 44.2 (22.4), LoRA's
scores 38.4, DessiLBI 30.5; at 0.3 refitted 79.5 (78.4), supermask 77.9, magnitude 75.3 (36.5),
DessiLBI 68.7, LoRA's scores 67.6; at half refitted 83.1 (83.0), magnitude 82.0, LoRA's scores 81.1,
DessiLBI 81.1, supermask 81.0, unpruned 83.7. The fit takes 59 passes beside the steps, and is worth
more than they are: at 0.3 magnitude has 69.2 after 60 steps and 76.1 after 310. Cut out whole
(heads and neurons, one seed), compensated by ridge regression, the converged network has 56.2 %
right after the cut at 0.3 and 69.2 after the steps, 77.9 at half, 80.8 at 0.7; group lasso 57.7,
72.2 and 78.9, the envelope as much. That gains time, on two cores in turns with the dense network:
64 images take 0.42 of it at 0.3 and 0.51 at half in eager PyTorch, one image 0.68 and 0.85. The
cheapest gain is another: int8 in ONNX Runtime takes 69 ms for 64 images of the dense network (eager
110, ONNX Runtime's float32 as much) and loses nothing (83.7 %); with what was cut the two multiply
(38 ms at half). Single weights that go gain nothing in such kernels, and little in sparse ones: the
product with a layer of ViT-Ti's in CSR overtakes the dense one at densities of 0.09 to 0.16, with
one layer not even at 0.05, while half of the rows gone makes it 1.7 to 1.9 times as fast. PyTorch's
own int8 gains nothing at 64 images. Single images in ONNX Runtime are noisy here. The first sweep
of CIFAR-10 (308,042 parameters, not converged): 8.5 epochs, a cell has 300 steps more, by one
warm-up and cosine for search and recovery together, for all methods alike. The 95 % interval is
about ± 0.95 at 60 %. From 0.5 on magnitude, gradual, l1, group lasso, DessiLBI and the unpruned
network are not told apart; at 0.1 supermask, magnitude and gradual lie within one interval, and
nothing beats magnitude, the simplest, beyond it. DessiLBI has one search for all nine densities.
magnitude-late prunes after as many steps as the longest search: what is left for recovery decides
below 0.3. Groups pay for being removable: at density 0.5 latency is 0.74 of the dense network's, at
0.3 0.56. On digits (42 methods, three seeds, one dense network of 98.6 %, 40 steps a cell) methods
part at a tenth: magnitude has 70.6 %, with what stays fitted anew, block by block, 94.2, supermask
93.2, SynFlow 90.6, LoRA's scores 87.9, DessiLBI 53.3; right after the cut the first two have 41.4
and 91.9. At 0.3 half of the methods are within a point of the unpruned network; whole parts,
movement, random masks and densities, norms alone, SET, RigL, OWL, supermask, OATS and relevance are
not. Not yet run on CIFAR-10: the other methods and densities on the converged network,
distillation, ViT-Ti and ViT-B/16.
"""

DESSILBI = """
LeNet on MNIST, all 60,000 train images. With the paper's λ = 1 60 to 90 filters stay here: ours was
chosen for the number, on train images. The order of entry is worse than magnitude below density
0.4: what enters first was large early in training; the magnitude of DessiLBI's own weights is the
best of the three. A density that is asked for is met to half a point, and W trained around that
support has 98.9 % at density 0.1 without retraining, 11 points above the order of entry. The
support is no better a ticket than its layer sizes (at density 0.02 it trains in some seeds, random
masks in none), and what growing finds is a shape, not weights. Pull lr/ν and clock lr_gamma/ν are
the same for all bases but rows 2, 3, 5 and 6. The optimizer's own step takes 4.3 and 3.6 times
SGD's, 2.0 and 1.8 times AdamW's (LeNet, ResNet-56; the aim was twice SGD's, whose step is one fused
pass, where ours updates V and Γ, too): 0 to 2 % of a training step. ResNet-20 on CIFAR-10 (24
epochs, one seed, 72 minutes of one core beside another job; nothing tuned): W has 89.7 %, 88.0 % on
a support of 30 %, which is 1.1 points more than SGD's network keeps with as many of its largest
weights (86.9; dense 89.9). The aims, 90 % for W and one point less on the support, are missed by
0.3 and 0.7 points. Other CIFAR-10 runs (add cifar10 in place of mnist): not yet run.
"""

LANDSCAPE = """
Medians over steps of the width of the loss band along the gradient, of the largest change of the
gradient, and of β at the shortest and the longest length (0.5 and 4 learning rates). On digits
BatchNorm's bands are 39 and 109 times narrower at rates 0.03 and 0.1, where the plain network's
loss lags behind, and 2.7 times at 0.3, the best rate of both on validation, where both end at
0.0009. In CIFAR-10's first epoch they are not: the widths agree within 16 %, and β at the shortest
length within 15 %: there β times rate is 1.30 to 1.63 in all six rows, below 2, the edge of
stability, so that β follows the rate and not BatchNorm; at the longest length it is 1.1 to 1.4
times lower with BatchNorm, as it is on digits at equal rate (1.4 to 1.7 times at the shortest).
Gradient descent on 512 digits shows why: without normalisation the Hessian's largest eigenvalue
climbs to 2 / rate at every rate, overshoots it (1.7 to 2.0 times) and stays there until the loss is
near zero; with BatchNorm it starts high, at the two larger rates above the edge (1.4 and 2.7
times), and falls from the beginning; at the lowest rate it never meets the edge (0.87). Weights
grow little by then: |w|² of all matrices and filters is 1.13 to 1.19 times that at the start (1.22
to 1.35 without normalisation), and λ|w|² falls as λ does. At rate 1 on digits two of three seeds
diverge or end at chance, with and without it; such networks are in no mean, median or band. In 400
steps of SGD on CIFAR-10 (three seeds) the largest eigenvalue of 512 images comes to 0.98 to 1.27
times 2 / rate at every rate, with BatchNorm, which begins 2 to 8 times above it, and without, while
the loss is still high; that of all images is lower than of a part of them. Batch sharpness, which
for small batches should come to the edge (Andreyev and Beneventano 2024), is only 0.45 to 0.54 of
it, as a median over probes of single batches. So there it is the rate that says how sharp a place
is, not BatchNorm. Adam on the 512 digits (three seeds) does not stay at its edge: its
preconditioned curvature has 0.02 to 0.13 of it over the later probes, at every rate, with and
without BatchNorm (0.3 to 2.1 at most, early). The course's VGG-A after eight epochs of Adam at
0.001 without augmentation (one seed) has 75.8 % of test without and 81.0 % with BatchNorm (aims 78
and 84; published, by longer training, 75 to 80 and 80 to 83). Its loss is lower with BatchNorm
throughout, its band along the gradient 0.7 times as wide; β is 0.9 times as high at the shortest
length and 1.4 times as high at the longest, and the gradient changes more (2.3 and 1.7): trained
for longer the landscape is no smoother with it by these measures. Its other rates: not yet run.
Other normalisers, in 400 steps of SGD on CIFAR-10 (three seeds): with l1 and l2 norms β at the
shortest length is as with BatchNorm, 29 to 30 at rate 0.05, 16 to 17 at 0.1, 8 at 0.2, and as
without any at the larger two; linf comes there from below, as the plain network does, and is the
best at 0.2 (52.1 %, l1 47.4). So β follows the rate with all five.
"""

STUDY = """
300 steps of 64 images, less than half an epoch. Every row has its own learning rate, searched on
validation with one seed; rates that differ by less than the seeds do are chosen by chance.
BatchNorm is worth 10 points beside residual connections and 17 without them so early (at the base's
rate the plain network diverges); weight decay nothing. Fourteen epochs of two million parameters
have 94.01 ± 0.08 % (three seeds, bfloat16 on a machine that multiplies in it, 48 minutes of one
core a seed beside another job; the aim was 94 % in 75 minutes of two cores). One seed in float32
with AVX2 had 94.1 % after 86 minutes of two cores that other jobs shared. The settings for 95 %
(cifar10): not yet run.
"""

TASKS = """
Latents, PCA with as many numbers and PCA with all components have equal choices on validation;
diffusion priors are trained alike for latents and for PCA with as many numbers, none for PCA with
all components (Wiener's filter). Non-local means is a filter of denoise since November 28 and not
yet in these tables: in a trial by their protocol it is ahead of latents on MNIST at noise 0.05,
level at 0.1 and behind at 0.2. Without it, on MNIST latents restore best where much is missing or
noise is strong: noise 0.1 and 0.2 by 1.5 and 2.9 dB over the best rival, twice the size by 4.9 dB,
four times by 1.7 dB, half of the pixels hidden at random by 1.6 dB. They lose against weak noise
(0.05: total variation 31.9 and Wiener 30.9 against 29.9 dB) and where one half or a box is hidden
(PCA with the diffusion prior, by 0.2 and 0.6 dB). On digits, with 32 of 64 numbers, the network's
own part is small: with equal priors denoising gains 0.5 to 1.4 dB at noise 0.1 and 0.2,
superresolution differs by 0.6 dB either way, and hidden pixels go to PCA in three cases of four by
up to 0.9 dB. Nothing told apart in classification on digits, nor on MNIST between latents and PCA
with as many numbers (98.04 and 97.93 %, p 0.34; pixels 97.74 %, p 0.004): an earlier table had p
0.003 there, with candidates that were not equal. Retrieval is level. Generation on MNIST: FID of
our own features 0.80 to 0.87 by latents, 1.46 to 1.64 by PCA, beyond their intervals; on digits not
told apart. Compression, without headers: 37 bytes at 27.6 dB on MNIST, where PCA with all numbers
has 23.7 dB, JPEG needs 137 bytes and WebP 103 (313 and 133 with their headers); on digits PCA with
all 64 numbers is level at low rates and ahead at high ones. A grid of 2x2x8 numbers on digits, 36.4
dB, helps against noise 0.05 and 0.1 (0.5 and 0.8 dB over Wiener) and is level at 0.2: enlarged or
completed it is behind PCA with the diffusion prior. The CIFAR-10 grid ran under the older protocol,
with few images and steps: it proves the path. Bytes in these task tables are of an older codec,
without transform and context.

Compression of CIFAR-10, the whole test set, one seed: latents have 26.8, 28.8, 30.8 and 33.1 dB at
0.68, 0.99, 1.35 and 1.90 bits per pixel. RECOMBINER is 0.1 dB ahead at 0.72 bits, level at 0.94,
0.7 dB behind at 1.53 and about 1 dB at 1.90; it takes 8 to 11 seconds of an A100 to encode an
image, a latent 4 milliseconds of a processor. BMS, a convolutional codec trained for a rate, is 0.5
dB behind at 0.75 bits and level at 1.11 and 1.63; CST, another, is ahead of all, of the latents by
1.2 dB at 1.32 bits and 2.4 at 1.73. PCA of 8x8 blocks through the same codec, which has all but the
adapted decoder, is 0.4 to 0.5 dB behind the latents between 0.94 and 1.53 bits, and at 1.53 itself
0.3 dB ahead of RECOMBINER: 0.3 dB of the gain there are the codec's, 0.4 the functa's. Learned
codecs, ours too, do not count their networks; BPG counts headers. PCA of whole images is 0.8 and
1.1 dB behind the latents at 0.94 and 1.53 bits.
"""

ROBUST = """
Few shots: ICI is no better than adding the most confident first. Labels: with symmetric noise, on
MNIST and on CIFAR-10, the path of shifts is no better than one least-squares residual, and small
loss is ahead at 80 % on MNIST's kernel features alone; with pair flips of 40 % the path leads on
these, and on CIFAR-10 knockoffs order best (AUC 89 %, the path 80), then the path, where a logistic
regression on what it keeps has 68 %, 59 % with all labels (one seed). Knockoffs hold the share of
wrong labels among those kept below 10 % on average, but keep almost nothing from 60 % of noise on.
Ranking: graded answers of which 30 % are wrong cost least squares much and the path little; Huber
is ahead at 40 %; with answers of plus or minus one nothing is gained. Masking: without leverage the
non-convex path finds what studentised residuals miss; a hundred equal outliers at one point are
missed by every method. Knockoffs hold their rate; where rows are many, Benjamini-Hochberg holds it
too and finds more; for jumps split knockoffs find what knockoffs of running sums do not. MSplit LBI
has no advantage here: on the scans the lasso, the elastic net and ridge are ahead of it, but nearly
all take the least penalty that was tried. Learned layers are far ahead of ISTA and FISTA on codes
like those they were trained for (ALISTA -58 dB, FISTA -11), but on codes ten times larger FISTA at
its best penalty is ahead of all of them, guarded or not; the safeguard hurts on smaller codes.
Robust PCA with the usual weight loses to PCA at 5 and 10 % of corrupted pixels; its best weight,
which knows the clean data as the best rank of PCA does, is ahead.
"""
