// The app's functions for one kind of event.

export class Handlers {
  #handlers = new Set();
  #fault;

  // `fault` is told what a handler throws.
  constructor(fault) {
    this.#fault = fault;
  }

  get size() {
    return this.#handlers.size;
  }

  // Adds a handler; returns the function that takes it off again.
  add(handler) {
    if (typeof handler !== 'function') throw new TypeError('a handler must be a function');
    this.#handlers.add(handler);
    return () => this.#handlers.delete(handler);
  }

  // Calls each and waits for none.
  tell(...values) {
    for (const handler of [...this.#handlers]) this.#call(handler, values);
  }

  // Calls one after the other and waits for each.
  async hand(...values) {
    for (const handler of [...this.#handlers]) await this.#call(handler, values);
  }

  async #call(handler, values) {
    try {
      await handler(...values);
    } catch (error) {
      this.#fault(error);
    }
  }
}
