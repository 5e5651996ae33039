"""N-grams, the baselines of language models."""

from __future__ import annotations

import numpy as np


def ngram_losses(symbols: np.ndarray, num_train: int, num_symbols: int, order: int) -> list[float]:
    r"""Returns mean losses, in nats per symbol, of interpolated Witten-Bell n-grams of order 1 to `order`.

    .. math:: P_n(c \mid h) = \frac{N(h c) + T(h) P_{n-1}(c \mid h')}{N(h) + T(h)}

    :math:`h` is the context of :math:`n - 1` symbols, :math:`h'` the same without its first, :math:`N` counts
    occurrences and :math:`T(h)` is the number of different symbols seen after :math:`h`; :math:`P_0` is uniform.
    The first `num_train` symbols are counted, the rest are predicted.

    References: I. Witten, T. Bell, "The zero-frequency problem", 1991; S. Chen, J. Goodman, "An empirical
    study of smoothing techniques for language modeling", 1998.
    """
    symbols = symbols.astype(np.int64)
    context = np.zeros(len(symbols), np.int64)  # a number for what precedes each symbol
    p = np.full(len(symbols) - num_train, 1 / num_symbols)
    losses = []
    for _ in range(order):
        # Grams are renumbered at each order, so that no product of numbers overflows an integer.
        _, first, gram = np.unique(context * num_symbols + symbols, return_index=True, return_inverse=True)
        seen = np.bincount(gram[:num_train], minlength=len(first))
        follow = np.bincount(context[:num_train], minlength=context.max() + 1)
        kinds = np.bincount(context[first[seen > 0]], minlength=len(follow))
        h = context[num_train:]
        total = follow[h] + kinds[h]
        p = np.where(total > 0, (seen[gram[num_train:]] + kinds[h] * p) / np.maximum(total, 1), p)
        losses.append(float(-np.log(p).mean()))
        context = np.concatenate([[len(first)], gram[:-1]])  # nothing precedes the first symbol
    return losses


def kneser_ney(text: np.ndarray, num_train: int, num_words: int, order: int) -> np.ndarray:
    r"""Returns log probabilities, by n-grams of order 1 to `order`, of a text's words after the first `num_train`.

    .. math:: P_n(w \mid h) = \frac{\max(c(h w) - D, 0) + D\, T(h) P_{n-1}(w \mid h')}{\sum_v c(h v)}

    :math:`h` is the context of :math:`n - 1` words, :math:`h'` the same without its first, :math:`T(h)` the number of
    different words seen after :math:`h`. :math:`c` counts occurrences at the highest order and, at all lower ones, the
    different words seen before :math:`h w`. :math:`D = n_1 / (n_1 + 2 n_2)`, where :math:`n_1` and :math:`n_2` are the
    numbers of an order's grams that are counted once and twice; :math:`P_0` is uniform.

    The first `num_train` words are counted, the rest are predicted.

    Returns:
      [order, words].

    Reference: S. Chen, J. Goodman, "An empirical study of smoothing techniques for language modeling", 1998.
    """
    text = text.astype(np.int64)
    context = np.zeros(len(text), np.int64)  # a number for what precedes each word
    grams, contexts, firsts = [], [], []
    for _ in range(order + 1):
        # Grams are renumbered at each order, so that no product of numbers overflows an integer.
        _, first, gram = np.unique(context * num_words + text, return_index=True, return_inverse=True)
        grams.append(gram)
        contexts.append(context)
        firsts.append(first)
        context = np.concatenate([[len(first)], gram[:-1]])  # nothing precedes the first word

    def interpolated(n: int, count: np.ndarray, lower: np.ndarray) -> np.ndarray:
        """Probabilities of order n + 1, from the counts of its grams and the probabilities of order n."""
        once, twice = (count == 1).sum(), (count == 2).sum()
        discount = once / max(1, once + 2 * twice)
        of = contexts[n][firsts[n]]  # each gram's context
        total = np.bincount(of, count, contexts[n].max() + 1)[contexts[n][num_train:]]
        kinds = np.bincount(of, count > 0, contexts[n].max() + 1)[contexts[n][num_train:]]
        seen = count[grams[n][num_train:]]
        shared = np.maximum(seen - discount, 0) + discount * kinds * lower
        return np.where(total > 0, shared / np.maximum(total, 1), lower)

    lower = np.full(len(text) - num_train, 1 / num_words)
    logs = []
    for n in range(order):
        occurrences = np.bincount(grams[n][:num_train], minlength=len(firsts[n]))
        logs.append(np.log(interpolated(n, occurrences, lower)))
        longer = firsts[n + 1][firsts[n + 1] < num_train]  # the first place of each longer gram
        before = np.bincount(grams[n][longer], minlength=len(firsts[n]))
        lower = interpolated(n, before, lower)
    return np.array(logs)
