import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    testTimeout: 30_000,
    hookTimeout: 30_000,
    // Every test file starts real processes, and much of its time is waiting for them.
    maxWorkers: 3,
  },
});
