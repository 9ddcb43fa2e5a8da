# Criterion values of GPArotation, the best of 30 starts (the identity and 29 of Random.Start), for the tests of rotation.
# Run in this folder: Rscript gparotation.R > data/gparotation.csv    (GPArotation 2022.10-2, psych 2.2.9, R 4.2.2)
suppressMessages({library(GPArotation); library(psych)})
criteria <- function(p, k, A) {
  target <- ifelse(abs(A) > 0.4, sign(A), 0)          # any target serves; made from A so that both sides can make it
  weight <- matrix(rep_len(c(1, 0, 1, 1, 0), p * k), p, k)
  list(
    orthogonal = list(
      varimax = list("varimax"), quartimax = list("quartimax"), entropy = list("entropy"), mccammon = list("mccammon"),
      tandemI = list("tandemI"), tandemII = list("tandemII"),
      equamax = list("cf", kappa = k / (2 * p)), parsimax = list("cf", kappa = (k - 1) / (p + k - 2)),
      cf.3 = list("cf", kappa = 0.3), geomin = list("geomin", delta = 0.01), bentler = list("bentler"),
      infomax = list("infomax"), target = list("target", Target = target),
      pst = list("pst", W = weight, Target = target), bifactor = list("bifactor")),
    oblique = list(
      quartimin = list("quartimin"), oblimin_0.5 = list("oblimin", gam = -0.5), oblimax = list("oblimax"),
      equamax = list("cf", kappa = k / (2 * p)), parsimax = list("cf", kappa = (k - 1) / (p + k - 2)),
      cf.3 = list("cf", kappa = 0.3), geomin = list("geomin", delta = 0.01), geomin.001 = list("geomin", delta = 0.001),
      bentler = list("bentler"), infomax = list("infomax"), simplimax = list("simplimax", k = p),
      target = list("target", Target = target), pst = list("pst", W = weight, Target = target),
      bifactor = list("bifactor")))
}
cat("matrix,rotation,normalize,criterion,first,best,times\n")
for (name in c("harman8", "box20", "harman74")) {
  A <- as.matrix(read.csv(file.path("data", paste0(name, ".csv")), row.names = 1))
  dimnames(A) <- NULL
  sets <- criteria(nrow(A), ncol(A), A)
  for (kind in names(sets)) for (normalize in c(FALSE, TRUE)) for (what in names(sets[[kind]])) {
    if (what == "bifactor" && ncol(A) < 3) next
    arguments <- sets[[kind]][[what]]
    engine <- if (kind == "orthogonal") GPForth else GPFoblq
    set.seed(1)
    values <- sapply(1:30, function(i) {
      start <- if (i == 1) diag(ncol(A)) else Random.Start(ncol(A))
      run <- tryCatch(suppressWarnings(engine(A, Tmat = start, normalize = normalize, method = arguments[[1]],
        methodArgs = arguments[-1], eps = 1e-6, maxit = 1000)), error = function(e) NULL)
      last <- if (is.null(run)) NULL else run$Table[nrow(run$Table), ]      # iteration, value, log10 of the slope
      if (is.null(last) || !is.finite(last[2]) || last[3] > -4) NA else last[2]
    })
    best <- if (all(is.na(values))) NA else min(values, na.rm = TRUE)
    cat(sprintf("%s,%s,%d,%s,%.10f,%.10f,%d\n", name, kind, normalize, what, values[1], best,
      sum(values < best + 1e-6, na.rm = TRUE)))
  }
}
