import { defineConfig } from '@playwright/test';

// Debian's chromium; Playwright's own browsers are not downloaded.
export default defineConfig({
  testDir: '.',
  testMatch: '*.spec.mjs',
  outputDir: 'results/failures',
  timeout: 90_000,
  expect: { timeout: 15_000 },
  workers: 1,
  reporter: [['list']],
  use: {
    launchOptions: { executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] },
    viewport: { width: 1280, height: 800 },
  },
});
