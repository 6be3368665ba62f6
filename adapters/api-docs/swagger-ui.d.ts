declare module "swagger-ui-dist/swagger-ui-es-bundle.js" {
  interface SwaggerUI {
    preauthorizeApiKey(scheme: string, value: string): void;
  }
  export default function SwaggerUI(options: Record<string, unknown>): SwaggerUI;
}
