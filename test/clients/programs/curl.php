<?php
$runs = getenv('HUB_URL') . '/api/v1/pipelines/runs';

function ask(string $url, array $headers = [], ?string $body = null): array
{
    $curl = curl_init($url);
    $headers[] = 'Authorization: Bearer ' . getenv('HUB_KEY');
    $options = [CURLOPT_HTTPHEADER => $headers, CURLOPT_RETURNTRANSFER => true, CURLOPT_FAILONERROR => true];
    if ($body !== null) $options += [CURLOPT_POST => true, CURLOPT_POSTFIELDS => $body];
    curl_setopt_array($curl, $options);
    $answer = curl_exec($curl);
    if ($answer === false) exit(curl_error($curl));
    return json_decode($answer, true, flags: JSON_THROW_ON_ERROR);
}

function launch(string $runs): string
{
    $headers = ['Content-Type: application/json', 'Idempotency-Key: php-curl-1'];
    return ask($runs, $headers, json_encode(['recipe_id' => 'endless']))['run_id'];
}

$run = launch($runs);
echo "$run\n", launch($runs), "\n";
for ($text = '', $after = 0; !str_ends_with($text, "\n"); $after = $page['offset']) {
    $page = ask("$runs/$run/logs?after=$after&wait=5");
    $text .= $page['chunk'];
}
echo $text, ask("$runs/$run/kill", [], '')['status'], "\n";
