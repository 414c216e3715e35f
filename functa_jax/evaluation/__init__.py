"""What latents are worth: PSNR and PCA, and classifiers with intervals."""
