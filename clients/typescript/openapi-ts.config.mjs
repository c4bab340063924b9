// How `npm run generate` makes src/generated out of the contract.

import { defineConfig } from '@hey-api/openapi-ts';

export default defineConfig({
  input: '../../openapi/openapi.yaml',
  output: { path: 'src/generated', importFileExtension: '.js' },
  parser: {
    patch: {
      // A WebSocket is nothing that fetch can open.
      input: (contract) => void delete contract.paths['/ws'],
    },
  },
  plugins: ['@hey-api/client-fetch', '@hey-api/typescript', '@hey-api/sdk'],
  logs: { level: 'error', file: false },
});
