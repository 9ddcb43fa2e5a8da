"""Fits and oracles that the tests of this folder share."""

import pytest
import torch

import probae as pa


@pytest.fixture(scope="session")
def holzinger():
    """Nine tests of 301 pupils."""
    return pa.datasets.holzinger_swineford().x


@pytest.fixture(scope="session")
def three_factors(holzinger):
    """Three exploratory factors of them."""
    return pa.fit(pa.FactorAnalysis(9, 3), holzinger)


@pytest.fixture(scope="session")
def pattern():
    """Three tests to a factor."""
    return torch.eye(3, dtype=torch.bool).repeat_interleave(3, 0)


@pytest.fixture(scope="session")
def confirmatory(holzinger, pattern):
    """Three correlated factors with fixed zeros: the model of lavaan's tutorial."""
    return pa.fit(pa.ConfirmatoryFactorAnalysis(pattern, correlated=True), holzinger)


@pytest.fixture(scope="session")
def with_holes(holzinger):
    """The same table with one entry in eleven missing, in 11 patterns."""
    row, column = torch.arange(301).unsqueeze(1), torch.arange(9)
    return torch.where((7 * row + 13 * column) % 11 == 0, torch.nan, holzinger)


@pytest.fixture(scope="session")
def ability():
    """Six tests of 112 people, as a covariance."""
    table = pa.datasets.ability_cov()
    return pa.SufficientStatistics.from_covariance(table.covariance, count=table.count)


def statistics_of(covariance, count):
    """Moments whose maximum likelihood covariance is the given one."""
    return pa.SufficientStatistics(
        count, torch.zeros(len(covariance), dtype=torch.float64), count * covariance
    )


@pytest.fixture(name="statistics_of", scope="session")
def statistics_of_fixture():
    """`statistics_of`, for every test of this folder."""
    return statistics_of


# Correlations of 24 psychological tests of 145 pupils (Holzinger & Swineford, 1939, as in Harman, 1976), in
# thousandths, below the diagonal, column by column: R = Harman74.cor$cov; R[lower.tri(R)] of R 4.2.2.
HARMAN74 = """
    318 403 468 321 335 304 332 326 116 308 314 489 125 238 414 176 368 270 365 369 413 474 282 317 230 285 234 157
    157 195 57 150 145 239 103 131 272 5 255 112 292 306 232 348 211 305 247 268 223 382 184 -75 91 140 321 177 65
    263 177 211 312 297 165 250 383 203 227 327 335 391 325 99 110 160 327 66 127 322 187 251 137 339 349 380 335
    248 622 656 578 723 311 344 215 344 280 229 187 208 263 190 398 318 441 435 420 722 527 714 203 353 95 309 292
    251 291 273 167 251 435 263 386 431 433 619 685 246 232 181 345 236 172 180 228 159 226 451 314 396 405 437 532
    285 300 271 395 252 175 296 255 250 274 427 362 357 501 388 170 280 113 280 260 248 242 274 208 274 446 266 483
    504 424 484 585 408 172 154 124 289 317 190 173 405 160 262 531 428 535 350 240 314 362 350 290 202 399 304 251
    412 512 131 173 119 278 349 110 246 355 193 350 414 195 139 281 194 323 263 241 425 279 382 358 370 412 341 201
    206 302 183 243 242 304 325 345 334 192 272 232 246 256 165 324 344 258 388 348 283 360 262 448 324 262 173 273
    287 326 358 301 357 317 272 405 167 331 342 303 374 413 463 509 366 374 451 448 503 375 434
"""


@pytest.fixture(scope="session")
def harman74():
    """24 psychological tests, as published correlations."""
    column, row = torch.triu_indices(24, 24, 1)
    correlation = torch.eye(24, dtype=torch.float64)
    correlation[row, column] = torch.tensor([float(value) for value in HARMAN74.split()]).double() / 1000
    return pa.SufficientStatistics.from_covariance(correlation + correlation.T - torch.eye(24), count=145)
