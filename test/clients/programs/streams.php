<?php
$runs = getenv('HUB_URL') . '/api/v1/pipelines/runs';

function ask(string $method, string $url, array $headers = [], string $body = ''): array
{
    $headers[] = 'Authorization: Bearer ' . getenv('HUB_KEY');
    $http = ['method' => $method, 'header' => $headers, 'content' => $body, 'timeout' => 30];
    $answer = file_get_contents($url, false, stream_context_create(['http' => $http]));
    if ($answer === false) exit(1);
    return json_decode($answer, true, flags: JSON_THROW_ON_ERROR);
}

function launch(string $runs): string
{
    $headers = ['Content-Type: application/json', 'Idempotency-Key: php-streams-1'];
    return ask('POST', $runs, $headers, json_encode(['recipe_id' => 'endless']))['run_id'];
}

$run = launch($runs);
echo "$run\n", launch($runs), "\n";
for ($text = '', $after = 0; !str_ends_with($text, "\n"); $after = $page['offset']) {
    $page = ask('GET', "$runs/$run/logs?after=$after&wait=5");
    $text .= $page['chunk'];
}
echo $text, ask('POST', "$runs/$run/kill")['status'], "\n";
