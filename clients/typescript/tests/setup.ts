// One service for all test files that do not disturb it.

import type { TestProject } from 'vitest/node';

import { Service } from './live.js';

declare module 'vitest' {
  export interface ProvidedContext {
    url: string;
    port: number;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const service = await Service.start();
  project.provide('url', service.url);
  project.provide('port', service.port);
  return () => service.stop();
}
