"""How near a picture is to the truth: PSNR, SSIM, gradient similarity, error of high frequencies; means over frames."""

import numpy as np

SSIM_SIGMA, SSIM_C1, SSIM_C2 = 1.5, (0.01 * 255) ** 2, (0.03 * 255) ** 2  # Wang et al., 2004
GMSD_C = 170.0  # Xue et al., 2014, for 0..255
HIGH_SIGMA = 1.5  # pixels of the blur that leaves the low frequencies


def likeness(found: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Compare videos, uint8 [F, H, W, 3]; all but PSNR on luma."""
    error = np.square(found.astype(float) - truth).mean((1, 2, 3))
    a, b = luma(found), luma(truth)
    return {
        "psnr": float(np.mean(10 * np.log10(255**2 / np.maximum(error, 1e-9)))),
        "ssim": float(np.mean([ssim(x, y) for x, y in zip(a, b, strict=True)])),
        "gmsd": float(np.mean([gmsd(x, y) for x, y in zip(a, b, strict=True)])),
        "high": float(np.mean([high_error(x, y) for x, y in zip(a, b, strict=True)])),
    }


BETTER = {"psnr": 1, "ssim": 1, "gmsd": -1, "high": -1}
"""1: higher is better; -1: lower."""


def luma(video: np.ndarray) -> np.ndarray:
    return video.astype(np.float64) @ np.array([0.299, 0.587, 0.114])


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Structural similarity with a Gaussian window."""
    mean_a, mean_b = _blur(a, SSIM_SIGMA), _blur(b, SSIM_SIGMA)
    var_a, var_b = _blur(a * a, SSIM_SIGMA) - mean_a**2, _blur(b * b, SSIM_SIGMA) - mean_b**2
    both = _blur(a * b, SSIM_SIGMA) - mean_a * mean_b
    top = (2 * mean_a * mean_b + SSIM_C1) * (2 * both + SSIM_C2)
    return float((top / ((mean_a**2 + mean_b**2 + SSIM_C1) * (var_a + var_b + SSIM_C2))).mean())


def gmsd(a: np.ndarray, b: np.ndarray) -> float:
    """Deviation of the gradients' similarity (Prewitt), without the paper's halving: pictures are small here."""
    a, b = _gradient(a), _gradient(b)
    return float(((2 * a * b + GMSD_C) / (a * a + b * b + GMSD_C)).std())


def high_error(found: np.ndarray, truth: np.ndarray) -> float:
    """Error of what a blur takes away, as a share of the truth's: 1 where there is none of it, 0 where all is right."""
    a, b = found - _blur(found, HIGH_SIGMA), truth - _blur(truth, HIGH_SIGMA)
    return float(np.sqrt(np.square(a - b).mean() / max(np.square(b).mean(), 1e-9)))


def _gradient(picture: np.ndarray) -> np.ndarray:
    import cv2

    kernel = np.array([[1, 0, -1]] * 3, float) / 3
    across, down = (cv2.filter2D(picture, cv2.CV_64F, k) for k in (kernel, kernel.T))
    return np.hypot(across, down)


def _blur(picture: np.ndarray, sigma: float) -> np.ndarray:
    import cv2

    return cv2.GaussianBlur(picture, (0, 0), sigma)
