// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package ai.recollect;

import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.function.Function;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;

/**
 * Items over all pages. Each iteration asks anew, for a page when it comes to it; leaving it early
 * asks for no more.
 *
 * @param <T> what is listed
 */
public final class Listing<T> implements Iterable<T> {
  /** Returns the page after a token, "" for the first. */
  private final Function<String, Page<T>> pages;

  record Page<T>(List<T> items, String nextToken) {}

  Listing(Function<String, Page<T>> pages) {
    this.pages = pages;
  }

  @Override
  public Iterator<T> iterator() {
    return new Iterator<>() {
      private Page<T> page = new Page<>(List.of(), "");
      private Iterator<T> items = page.items.iterator();
      private boolean last;

      @Override
      public boolean hasNext() {
        while (!items.hasNext() && !last) {
          page = pages.apply(page.nextToken);
          items = page.items.iterator();
          last = page.nextToken.isEmpty();
        }
        return items.hasNext();
      }

      @Override
      public T next() {
        if (!hasNext()) {
          throw new NoSuchElementException();
        }
        return items.next();
      }
    };
  }

  /** Returns the items as a stream. */
  public Stream<T> stream() {
    return StreamSupport.stream(spliterator(), false);
  }
}
